"""Explanations of exit codes, comments and rejections, recorded or listed in the tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.openpbs import Sample, samples

from hpcml.batch.schedulers import listing
from hpcml.batch.schedulers.listing import JobStatus, Listing, State, read_json
from hpcml.batch.schedulers.refusal import explain_refusal
from hpcml.batch.schedulers.status import explain_exit
from hpcml.batch.schedulers.waiting import Shortage, explain_comment

JOB = JobStatus(
    id="7.s", name="a", state=State.FINISHED, queue="normal", substate=93, nodes=("n1",),
    resources={"walltime": "01:00:00", "mem": "4gb", "ncpus": "2"},
    used={"walltime": "00:10:00", "mem": "1048576kb", "ncpus": "2"},
)  # fmt: skip

# Kind of the first job of each sample.
KINDS = {
    "job_ok": "done", "job_envscatter": "done", "job_bad_output_path": "done", "job_afterany_of_failed": "done",
    "job_afterok": "done", "job_exit3": "failed", "job_segv": "failed", "job_badshell": "failed",
    "job_array_finished": "failed", "job_kill9": "killed", "job_walltime": "walltime", "job_walltime_trap": "walltime",
    "job_walltime_ignores_term": "walltime", "job_mem_killed": "memory", "job_afterok_of_failed": "never ran",
    "job_qdel_held": "never ran", "job_qdel_wait": "never ran", "job_qdel_queued_never_run": "never ran",
    "job_qdel_running": "deleted", "job_qdel_force": "deleted", "job_sig_usr1": "deleted",
    "node_down_requeued": "requeued", "node_back_job_still_queued": "requeued",
    "qstat_-x_-f_-F_json_all": "done", "qstat_err_two_ids_one_unknown_json": "done",
}  # fmt: skip

# Action and part of the sentence, by prefix of the sample's name; the longest prefix counts.
REFUSALS = {
    "server_down": ("retry", "the server does not answer (Connection refused; "),
    "qsub_err_no_server": ("give up", "the PBS server's host cannot be found"),
    "qstat_err_no_server": ("give up", "the PBS server's host cannot be found"),
    "qdel_err_no_server": ("give up", "the PBS server's host cannot be found"),
    "qsub_err_destination_at_server": ("give up", "the PBS server's host cannot be found"),
    "qsub_err_max_queued": ("wait", "no more jobs for now (qsub: would exceed queue generic's per-user limit)"),
    "qsub_err_unknown_queue": ("give up", "there is no such queue"),
    "qstat_err_bad_id": ("give up", "there is no such queue"),
    "qsub_err_queue_disabled": ("give up", "the queue is disabled"),
    "qsub_err_queue_acl": ("give up", "PBS denies permission"),
    "qdel_err_not_owner": ("give up", "PBS denies permission"),
    "qsub_err_as_root": ("give up", "of this user"),
    "qsub_err_walltime_over_limit": ("give up", "more than the queue allows"),
    "qsub_err_ncpus_too_large": ("give up", "more than the queue allows"),
    "qsub_err_select_ncpus_too_large": ("give up", "more than the queue allows"),
    "qsub_err_mem_too_large": ("give up", "more than the queue allows"),
    "qsub_err_bad_select": ("give up", "the value of select"),
    "qsub_err_bad_walltime": ("give up", "the value of walltime"),
    "qsub_err_bad_mem": ("give up", "the value of select.mem"),
    "qsub_err_bad_resource_name": ("give up", "no resource gpus"),
    "qsub_err_bad_resource_in_select": ("give up", "no resource gpus"),
    "qsub_err_bad_resource_no_value": ("give up", "no resource wd"),
    "qsub_err_select_and": ("give up", "mixed"),
    "qsub_err_missing_script": ("give up", "script cannot be read"),
    "qsub_err_script_is_directory": ("give up", "script cannot be read"),
    "job_crlf": ("give up", "Windows"),
    "qsub_err_bad_name": ("give up", "name (qsub: illegal -N value)"),
    "qsub_err_name_too_long": ("give up", "name (qsub: Job name is too long)"),
    "qsub_err_bad_option": ("give up", "option (qsub: invalid option -- 'Z')"),
    "qstat_err_bad_option": ("give up", "option"),
    "qsub_err_bad_directive": ("give up", "directive error: --frobnicate"),
    "qsub_err_depend_bad": ("give up", "option (qsub: illegal -W value)"),
    "qsub_err_array_bad": ("give up", "option (qsub: illegal -J value)"),
    "qsub_err_array_too_large": ("give up", "array is larger"),
    "qsub_err_v_missing": ("give up", "variable"),
    "qsub_v_odd": ("give up", "variable"),
    "qdel_err_unknown": ("give up", "does not know the job"),
    "qdel_W_force_unknown": ("give up", "does not know the job"),
    "qdel_two_unknown": ("give up", "does not know the job"),
    "qdel_several": ("give up", "does not know the job"),
    "qstat_err_unknown": ("give up", "does not know the job"),
    "qstat_after_qdel_-x": ("give up", "does not know the job"),
    "qstat_err_two_ids": ("give up", "does not know the job"),
    "qdel_err_finished": ("give up", "the job has ended"),
    "qstat_err_finished": ("give up", "the job has ended"),
    "qdel_err_bad_id": ("give up", "invalid job id"),
    "pbsnodes_err_unknown": ("give up", "no such node"),
}

LISTINGS = [sample for sample in samples("read_json", "read_text") if sample.stdout]


def jobs(sample: Sample) -> list[JobStatus]:
    reader: Callable[[bytes, bytes, int], Listing] = getattr(listing, sample.reader)
    return list(reader(sample.stdout, sample.stderr, sample.code).jobs.values())


class TestExit:
    @pytest.mark.parametrize("sample", LISTINGS, ids=lambda sample: sample.name)
    def test_samples(self, sample: Sample) -> None:
        found = jobs(sample)
        name = sample.name if sample.name.startswith("qstat") else sample.name.partition(".qstat")[0]
        if found:
            assert explain_exit(found[0]).kind == KINDS.get(name, "not ended")
        for job in found:
            explained = explain_exit(job)
            ended = job.state == "finished"
            assert (explained.kind in {"not ended", "requeued"}) == (not ended)
            assert explained.kind != "unknown"
            # PBS itself reports: and finished, and failed, and terminated, and exceeded resource.
            if explained.kind == "done":
                assert job.exit_status == 0
            if ended and (job.comment or "").endswith("and failed"):
                assert explained.kind in {"failed", "killed"}
            if "exceeded resource walltime" in (job.comment or ""):
                assert explained.kind == "walltime"

    def test_every_kind_has_been_recorded(self) -> None:
        names = {sample.name.partition(".qstat")[0] for sample in LISTINGS} | {sample.name for sample in LISTINGS}
        assert KINDS.keys() <= names

    def test_sentences_hold_the_values(self) -> None:
        def sentence(name: str) -> tuple[str, str]:
            (sample,) = (sample for sample in LISTINGS if sample.name == f"{name}.qstat_-x_-f_-F_json")
            found = explain_exit(jobs(sample)[0])
            return found.sentence, found.remedy

        assert sentence("job_walltime") == (
            "the job ran out of walltime (used 00:00:30, requested 00:00:15)",
            "increase it: cluster.walltime=00:01:00",
        )
        assert sentence("job_mem_killed") == (
            "the job used more memory than requested (used 824MB, requested 100MB)",
            "increase it: cluster.mem=1649MB; or run fewer workers in a job: cluster.workers_per_job=1",
        )
        assert sentence("job_qdel_running")[0] == "the job was deleted by hpcuser@pbs-server"
        assert sentence("job_bad_output_path") == (
            "the job succeeded; PBS could not deliver its output files",
            "check that the log directory exists and is writable from the nodes",
        )

    @pytest.mark.parametrize(
        ("code", "kind", "words"),
        [
            (0, "failed", "although the exit code is 0"),
            (1, "failed", "exit code 1"),
            (126, "failed", "could not be executed"),
            (127, "failed", "not found"),
            (134, "failed", "a process of the job crashed with SIGABRT"),
            (137, "killed", "SIGKILL"),
            (139, "failed", "SIGSEGV"),
            (143, "killed", "SIGTERM"),
            (200, "failed", "exit code 200"),
            (254, "failed", "shell"),
            (255, "failed", "exit code 255"),
            (256, "failed", "exit code 256"),
            (265, "killed", "the job's shell was killed with SIGKILL"),
            (267, "failed", "the job's shell crashed with SIGSEGV"),
            (271, "killed", "the job's shell was ended by SIGTERM"),
            (999, "killed", "signal 743"),
            (-24, "limit", "more cores"),
            (-25, "limit", "more cores"),
            (-26, "memory", "virtual memory"),
            (-27, "memory", "more memory"),
            (-28, "limit", "CPU time"),
            (-29, "walltime", "walltime"),
            (-20, "scheduler", "became unreachable"),
            (-99, "scheduler", "exit status -99"),
            *[(-n, "scheduler", "") for n in (*range(1, 8), *range(10, 24), 30)],
        ],
    )
    def test_codes(self, code: int, kind: str, words: str) -> None:
        found = explain_exit(dataclasses.replace(JOB, exit_status=code))
        assert found.kind == kind
        assert words in found.sentence
        assert "exit status" not in found.sentence or code == -99
        assert found.remedy

    def test_walltime_before_and_after_22_05(self) -> None:
        over = {"walltime": "01:00:21", "mem": "1048576kb"}
        for code in (-29, 271, 265):
            assert explain_exit(dataclasses.replace(JOB, exit_status=code, used=over)).kind == "walltime"
        # qdel causes the same code, one minute before the end or after it.
        for used in (JOB.used, over):
            deleted = dataclasses.replace(JOB, exit_status=271, used=used, substate=91)
            assert explain_exit(deleted).kind == "deleted"
        said = dataclasses.replace(JOB, exit_status=271, comment="Job run at X on (n1) and exceeded resource walltime")
        assert explain_exit(said).kind == "walltime"

    def test_memory_with_only_a_signal_as_evidence(self) -> None:
        for code in (137, 265):
            full = dataclasses.replace(JOB, exit_status=code, used={"mem": "4194304kb"})
            assert explain_exit(full).kind == "memory"
            assert "cluster.mem=8GB" in explain_exit(full).remedy
        assert "cluster.mem=8GB" in explain_exit(dataclasses.replace(JOB, exit_status=137)).remedy

    def test_unknown_ends_stay_unknown(self) -> None:
        slurm = JobStatus(id="12", name="w", state=State.FINISHED, queue="normal")
        assert explain_exit(slurm).kind == "unknown"
        assert explain_exit(dataclasses.replace(slurm, state=State.MOVED)).kind == "moved"
        assert "ended" not in explain_exit(dataclasses.replace(slurm, state=State.UNKNOWN)).sentence
        assert explain_exit(dataclasses.replace(slurm, substate=93, nodes=("n",))).kind == "unknown"
        assert explain_exit(dataclasses.replace(slurm, substate=91, nodes=("n",))).kind == "deleted"
        other = dataclasses.replace(JOB, exit_status=1, comment="x and exceeded resource licences")
        assert explain_exit(other) == type(explain_exit(other))(
            "limit", "the job used more licences than requested", "request more licences"
        )

    def test_a_job_that_could_never_run(self) -> None:
        comment = "Can Never Run: Insufficient amount of resource: mem (R: 64gb A: 16gb T: 16gb) and terminated"
        found = explain_exit(dataclasses.replace(JOB, substate=91, nodes=(), comment=comment))
        assert found.sentence == (
            "the job was deleted before it ran; it can never run: it requests mem=64gb, and 16gb of 16gb is free"
        )
        assert "cluster.mem" in found.remedy

    @settings(database=None, deadline=None)
    @given(
        st.integers(-400, 800) | st.none(), st.sampled_from([None, 20, 91, 92, 93]), st.text() | st.none(),
        st.sampled_from(list(State)),
        st.dictionaries(st.sampled_from(["walltime", "mem"]), st.text(alphabet="0123456789:kmgb")),
    )  # fmt: skip
    def test_anything(
        self, code: int | None, substate: int | None, comment: str | None, state: State, used: dict[str, str]
    ) -> None:
        job = JobStatus("7", "a", state, "q", substate, code, comment, resources=used, used=used)
        assert explain_exit(job).sentence


class TestComments:
    @pytest.mark.parametrize("sample", LISTINGS, ids=lambda sample: sample.name)
    def test_samples(self, sample: Sample) -> None:
        for job in jobs(sample):
            if job.comment is None:
                continue
            found = explain_comment(job.comment)
            assert found.never == job.comment.startswith("Can Never Run")
            assert (found.sentence == "the job was started") == job.comment.startswith("Job ")
            assert "PBS says" not in found.sentence
            assert (found.shortage is not None) == ("Insufficient" in job.comment)

    def test_shortages(self) -> None:
        found = explain_comment("Not Running: Insufficient amount of resource: ncpus (R: 4 A: 1 T: 8)")
        assert found.sentence == "the job waits: it requests ncpus=4, and 1 of 8 is free"
        assert found.shortage == Shortage("ncpus", 4, 1, 8)
        never = explain_comment("Can Never Run: Insufficient amount of queue resource: mem (R: 64gb A: 16gb T: 16gb)")
        assert never.never
        assert never.shortage == Shortage("mem", 64 * 1024**3, 16 * 1024**3, 16 * 1024**3)
        assert "cluster.mem" in never.remedy
        assert explain_comment("Not Running: Insufficient amount of resource: host ").shortage == Shortage("host")
        kind = explain_comment("Can Never Run: Insufficient amount of resource: model (bro != rom)")
        assert kind.sentence == "the job can never run: not enough model (bro != rom)"
        time = explain_comment("Not Running: Insufficient amount of server resource: walltime (R: 10:00:00 A: 60 T: x)")
        assert time.shortage == Shortage("walltime", 36000, 60, None)

    @pytest.mark.parametrize(
        ("comment", "words"),
        [
            ("User has reached queue normal running job limit.", "as the site allows a user (queue normal)"),
            ("User has reached server running job limit.", "a user (server)"),
            ("Group has reached server running limit.", "a group (server)"),
            ("Project has reached queue Big's running limit.", "a project (queue Big)"),
            ("Queue normal job limit has been reached.", "(queue normal)"),
            ("Server job limit has been reached.", "(server)"),
            ("Queue normal job limit reached for user bob", "(queue normal)"),
            ("Server job limit reached for project ab12", "(server)"),
            ("Queue normal per-user limit reached on resource ncpus", "limit on ncpus"),
            ("would exceed project ab12's limit on resource ncpus in queue normal", "limit on ncpus"),
            ("would exceed overall limit on resource mem in complex", "limit on mem"),
            ("Number of concurrent running subjobs limit reached", "as the array allows"),
            ("Queue not started.", "is not starting any"),
            ("Dedicated time conflict", "maintenance"),
            ("Job would cross dedicated time boundary", "maintenance"),
            ("Job would conflict with reservation or top job", "with priority"),
            ("Job would interfere with a top job", "with priority"),
            ("Job would break strict sorted order", "with priority"),
            ("Job will run in nonprimetime only", "certain times"),
            ("Job will cross into primetime", "certain times"),
            ("No available resources on nodes", "no node has the requested resources free"),
            ("Not enough free nodes available", "no node has the requested resources free"),
            ("Not enough of the right type of nodes are available", "no node has the requested resources free"),
            ("host set host=n1 has too few free resources", "no node has the requested resources free"),
            ("Not enough total nodes available", "large enough"),
            ("can't fit in the largest placement set, and can't span psets", "large enough"),
            ("PBS Error: Execution server rejected request", "failed to start it: execution server rejected request"),
            ("No such thing as this", "PBS says 'No such thing as this'"),
        ],
    )
    def test_waiting_and_never(self, comment: str, words: str) -> None:
        waits, never = explain_comment(f"Not Running: {comment}"), explain_comment(f"Can Never Run: {comment}")
        assert waits.sentence.startswith("the job waits: ")
        assert never.sentence.startswith("the job can never run: ")
        assert words in waits.sentence
        assert words in never.sentence
        assert (waits.never, never.never) == (False, True)
        assert never.remedy
        assert waits.remedy or "PBS says" in waits.sentence

    def test_held(self) -> None:
        found = explain_comment("job held, too many failed attempts to run")
        assert found.never
        assert "tried too often" in found.sentence
        assert "qdel" in found.remedy
        assert "it is held" in explain_comment("Job held by bob on Sat Nov 21 07:00:00 2026").sentence

    def test_no_reason(self) -> None:
        assert explain_comment(" ").sentence == "PBS has given no reason yet"
        assert explain_comment("Job was sent for execution at X on (n1)").sentence == "the job was started"

    @settings(database=None, deadline=None)
    @given(st.text(), st.sampled_from(["", "Not Running: ", "Can Never Run: ", "Insufficient amount of resource: "]))
    def test_anything(self, text: str, start: str) -> None:
        assert explain_comment(start + text).sentence


class TestRejections:
    @pytest.mark.parametrize("sample", [s for s in samples() if s.stderr], ids=lambda sample: sample.name)
    def test_samples(self, sample: Sample) -> None:
        action, words = REFUSALS[max((key for key in REFUSALS if sample.name.startswith(key)), key=len)]
        found = explain_refusal(sample.stderr, sample.code)
        assert found.action == action
        assert words in found.sentence
        assert sample.stderr.decode().splitlines()[0].strip() in found.sentence  # original message
        assert "usage" not in found.sentence
        assert found.remedy or "job" in found.sentence

    @pytest.mark.parametrize(
        ("stderr", "words", "key"),
        [
            (
                'qsub: Error: The system doesn\'t support the use of "-l select". Please use "-l ncpus" and "-l mem"'
                " instead.\n",
                "the site rejects -l select (qsub: Error: The system",
                "site=gadi",
            ),
            (
                "qsub: Error: You are not a member of project vp91. You must be a member of a project to submit a job"
                " under that project.\n",
                "You are not a member of project vp91",
                "cluster.project",
            ),
            ("qsub: Resource: filesystems is required to be set.\n", "request filesystems", "-l filesystems="),
            ("qsub: a hook that says something new\n", "qsub: a hook that says something new", ""),
        ],
    )
    def test_hooks(self, stderr: str, words: str, key: str) -> None:
        found = explain_refusal(stderr, 32)
        assert found.action == "give up"
        assert words in found.sentence
        assert key in found.remedy
        assert bool(key) == bool(found.remedy)

    @pytest.mark.parametrize("code", range(256))
    def test_codes(self, code: int) -> None:
        expected = "retry" if code in {104, 162, 183, 185, 186} else "wait" if code in {198, 38, 39} else "give up"
        assert explain_refusal("qsub: something new\n", code).action == expected
        assert explain_refusal(b"", code).action == expected
        # Messages of other programs have no PBS code.
        assert explain_refusal("bash: something new\n", code).action == "give up"

    @pytest.mark.parametrize(
        ("text", "action"),
        [
            ("qsub: Maximum number of jobs for user bob already in queue normal", "wait"),
            ("qsub: Maximum number of jobs in 'Q' state already in complex", "wait"),
            ("qsub: would exceed limit on resource ncpus in queue normal for jobs in 'Q' state", "wait"),
            ("qsub: Request not allowed: Server shutting down", "retry"),
            ("qsub: Error (15208) submitting job", "retry"),
            ("No free connections", "retry"),
            ("qsub: Job rejected by all possible destinations", "give up"),
            ("qsub: Access from host not allowed, or unknown host MSG=x", "give up"),
            ("qsub: Invalid Account", "give up"),
            ("bash: qsub: command not found", "give up"),
        ],
    )
    def test_text_comes_before_the_code(self, text: str, action: str) -> None:
        for code in (1, 188):
            assert explain_refusal(text, code).action == action
            assert text in explain_refusal(text, code).sentence

    def test_slurm(self) -> None:
        wrapper = (
            "There was an error running the Slurm sbatch command.\nThe command was:\n'/usr/bin/sbatch -p nosuch 2>&1'\n"
            "and the output was:\n'sbatch: error: invalid partition specified: nosuch\n"
            " sbatch: error: Batch job submission failed: Invalid partition name specified\n'\n"
        )
        found = explain_refusal(wrapper, 1)
        assert found.sentence == (
            "there is no such queue (invalid partition specified: nosuch; Batch job submission failed: Invalid "
            "partition name specified)"
        )
        assert found.action == "give up"
        assert (
            explain_refusal("sbatch: error: Unable to contact slurm controller (connect failure)", 1).action == "retry"
        )
        assert explain_refusal("Problem loading slurm.\n", 255).action == "retry"
        assert explain_refusal("sbatch: error: new words\n", 1).sentence == "new words"

    def test_no_output(self) -> None:
        assert explain_refusal(b"", 153).sentence == "the command ended with exit code 153 without a message"
        assert explain_refusal(b"\n", -15).sentence == "the command was killed by signal 15 without a message"

    @settings(database=None, deadline=None)
    @given(st.binary(), st.text(), st.integers(-64, 255))
    def test_anything(self, raw: bytes, text: str, code: int) -> None:
        for said in (raw, text, f"qsub: {text}", f"sbatch: error: {text}"):
            assert explain_refusal(said, code).sentence


def test_an_outage_does_not_end_a_job() -> None:
    """The outputs of a server that is down explain no job."""
    (sample,) = (sample for sample in LISTINGS if sample.name == "server_down.qstat_-f_-F_json")
    assert read_json(sample.stdout, sample.stderr, sample.code).find("171") is None
    assert explain_refusal(sample.stderr, sample.code).action == "retry"
