#!/bin/bash
# Submit head.pbs with overrides of any characters:
#
#   scripts/pbs/submit.sh -P ab12 -q normal -l ncpus=48,mem=190GB,jobfs=100GB,walltime=02:00:00,storage=scratch/ab12 \
#       -- experiment=digits_svc 'workload.grid={C: [1, 2]}'
#
# Arguments before -- go to qsub. The overrides after it are written to a file in this directory, one per line, and the
# job gets only the name of the file, because qsub -v splits values at commas and garbles quotes. Remove the file when
# the job has begun. env.sh in this directory makes the job's environment, or the file whose path is in HPCML_ENV.
#
# HPCML_SUBMIT=sbatch   submits to Slurm; put sbatch's options before --
set -euo pipefail

refuse() {
    printf 'submit.sh: %s\n' "$@" >&2
    exit 2
}

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
submit=${HPCML_SUBMIT:-qsub}
options=()
variables=
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    case $1 in
        -v) variables+=${2:?-v wants names and values},; shift ;;
        -v*) variables+=${1#-v}, ;;
        *) options+=("$1") ;;
    esac
    shift
done
[ $# -gt 1 ] || refuse "usage: submit.sh [qsub options] -- OVERRIDES" \
    "for example: submit.sh -P ab12 -q normal -l ncpus=48,mem=190GB,walltime=02:00:00 -- experiment=digits_svc"
shift
for override in "$@"; do
    case $override in *$'\n'*) refuse "an override is one line: $override" ;; esac
done
command -v "$submit" > /dev/null || refuse "there is no command $submit on this machine: start it on a login node"

# Reject a missing environment here, not in the job after its time in the queue.
case ,$variables in *,HPCML_ENV=*) environment=${variables#*HPCML_ENV=} environment=${environment%%,*} ;;
    *) environment=${HPCML_ENV:-env.sh} ;;
esac
case $environment in /*) ;; *) environment=$PWD/$environment ;; esac
[ -r "$environment" ] || refuse "there is no $environment: cp '$here/env.sh' . and name modules and environment in it"
grep -qv '^[[:space:]]*\(#\|$\)' "$environment" || refuse "$environment says nothing: name modules and environment in it" \
    "if the job needs none of them: echo : >> $environment"
arguments=$(mktemp hpcml-XXXXXXXX.args)
printf '%s\n' "$@" > "$arguments"
if [ "${submit##*/}" = sbatch ]; then
    # sbatch passes the environment on; without --ignore-pbs it would read the #PBS lines.
    status=0
    HPCML_ARGS_FILE=$arguments HPCML_ENV=$environment \
        "$submit" --ignore-pbs ${options[@]+"${options[@]}"} "$here/head.pbs" || status=$?
else
    case ,$variables in *,HPCML_ENV=*) ;; *)
        if [ -n "${HPCML_ENV:-}" ]; then
            case $environment in *[,\"\'\\]*) refuse "qsub -v garbles the path $environment: name one without , \" ' and \\" ;; esac
            variables+=HPCML_ENV=$environment,
        fi ;;
    esac
    variables+=HPCML_ARGS_FILE=$arguments
    status=0
    "$submit" ${options[@]+"${options[@]}"} -v "$variables" "$here/head.pbs" || status=$?
fi
[ $status -eq 0 ] || rm -f "$arguments"
exit $status
