"""Parse recorded outputs of qstat and pbsnodes, and invalid output."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.openpbs import HERE, Sample, samples

from hpcml.batch.schedulers import listing
from hpcml.batch.schedulers.listing import STATES, JobStatus, Listing, State, read_json, read_nodes, read_text
from hpcml.batch.schedulers.values import as_time

HEAD = '"timestamp": 1, "pbs_version": "23.06.06", "pbs_server": "s"'

# Outputs that must not be read as a listing without jobs. The last is not from qstat -f.
OUTAGES = {
    "qstat_err_no_server", "qstat_err_bad_id", "qstat_err_bad_option", "server_down.qstat",
    "server_down.qstat_-f_-F_json", "server_down.qstat_-Bf", "server_down.pbsnodes", "pbsnodes_err_unknown",
    "qstat_-f_-F_dsv",
}  # fmt: skip
UNKNOWN = {
    "qstat_err_unknown": "99999", "qstat_err_unknown_f_json": "99999", "qstat_err_unknown_x_f_json": "99999",
    "qstat_after_qdel_-x": "117", "qstat_err_two_ids_one_unknown_json": "99999",
    "qstat_err_two_ids_one_finished_json": "99999",
}  # fmt: skip
FINISHED = {
    "qstat_err_finished_without_-x": "111", "qstat_err_finished_without_-x_json": "111",
    "qstat_err_two_ids_one_finished_json": "111",
}  # fmt: skip
EMPTY = {"qstat_-f_-F_json_no_jobs"}

# State and substate of the first job of a sample.
STATE = {
    "job_never_runs_default_mem_from_resources_max": ("queued", 10), "job_qstat_self": ("running", 41),
    "job_ok_running": ("running", 42), "job_afterok_held": ("held", 22), "job_-V": ("running", 41),
    "job_qdel_running_right_after": ("running", 41), "job_array_submitted": ("queued", 10),
    "job_array_running": ("running", 70), "job_array_subjob": ("running", 41), "job_array_finished": ("finished", 93),
    "job_suspended": ("suspended", 43), "job_in_stopped_queue": ("queued", 10),
    "job_before_server_stop": ("suspended", 45), "server_back": ("running", 42), "other_users_job": ("held", 20),
    "job_numeric_strings": ("held", 20), "job_latin1_variable": ("held", 20), "qstat_two_ids_f_json": ("held", 20),
    "job_exported_bash_function": ("held", 20), "job_keep_oed": ("held", 20), "qstat_short_id_f_json": ("held", 20),
    "node_down_45s": ("running", 42), "node_down_requeued": ("queued", 10),
    "node_back_job_still_queued": ("queued", 10),
    "job_odd_variables_qsub_-V": ("held", 20), "qstat_-f_-F_json": ("running", 42), "qstat_-f": ("running", 42),
    "qstat_-f_-w": ("running", 42), "qstat_-x_-f_-F_json_all": ("finished", 92),
    "qstat_err_two_ids_one_unknown_json": ("finished", 92), "job_envscatter": ("finished", 92),
    "job_exit3": ("finished", 93), "job_kill9": ("finished", 93), "job_segv": ("finished", 93),
    "job_badshell": ("finished", 93), "job_bad_output_path": ("finished", 92), "job_ok": ("finished", 92),
    "job_afterok_of_failed": ("finished", 92), "job_afterany_of_failed": ("finished", 92),
    "job_afterok": ("finished", 92), "job_qdel_running": ("finished", 91), "job_qdel_held": ("finished", 91),
    "job_qdel_force": ("finished", 91), "job_qdel_queued_never_run": ("finished", 91),
    "job_qdel_wait": ("finished", 91),
    "job_sig_usr1": ("finished", 91), "job_walltime": ("finished", 93), "job_walltime_trap": ("finished", 93),
    "job_walltime_ignores_term": ("finished", 93), "job_mem_killed": ("finished", 93),
    **{f"job_odd_variable_{letter}": ("held", 20) for letter in "ABCDGHJ"},
}  # fmt: skip

LISTINGS = samples("read_json", "read_text")
Reader = Callable[[bytes, bytes, int], Listing]


def read(sample: Sample) -> Listing:
    reader: Reader = getattr(listing, sample.reader)
    return reader(sample.stdout, sample.stderr, sample.code)


def one(name: str) -> JobStatus:
    (job,) = read(next(sample for sample in LISTINGS if sample.name == name)).jobs.values()
    return job


def wrapped(**entry: object) -> bytes:
    return f'{{{HEAD}, "Jobs": {{"7.s": {json.dumps(entry)}}}}}'.encode()


class TestSamples:
    def test_the_index_is_the_directory(self) -> None:
        named = [file for sample in samples() for file in sample.files]
        assert sorted(named) == sorted(path.name for path in HERE.iterdir() if path.suffix in {".out", ".err"})
        assert all(sample.stdout or sample.stderr or sample.reader == "usage" for sample in samples())
        assert {sample.reader for sample in samples()} == {"read_json", "read_text", "read_nodes", "refusal", "usage"}

    @pytest.mark.parametrize("sample", LISTINGS, ids=lambda sample: sample.name)
    def test_qstat(self, sample: Sample) -> None:
        found = read(sample)
        name = sample.name.removesuffix("_-F_json").partition(".qstat")[0]
        name = sample.name if sample.name.startswith(("qstat", "server_down")) else name
        assert (found.outage is not None) == (sample.name in OUTAGES)
        assert found.unknown == ({f"{UNKNOWN[name]}.pbs-server"} if name in UNKNOWN else set())
        assert found.finished == ({f"{FINISHED[name]}.pbs-server"} if name in FINISHED else set())
        assert bool(found.jobs) == (name in STATE)
        for asked in filter(None, [UNKNOWN.get(name), FINISHED.get(name)]):
            expected = "unknown to the server" if asked == UNKNOWN.get(name) else "finished"
            assert found.answer(asked) == found.answer(f"{asked}.pbs-server") == expected
        # Only a listing without errors proves anything about jobs that it does not contain.
        whole = name not in UNKNOWN and name not in FINISHED and sample.name not in OUTAGES
        assert found.answer("4711") == ("unknown to the server" if whole else "no answer")
        if found.jobs:
            first = next(iter(found.jobs.values()))
            assert (first.state, first.substate) == STATE[name]
            assert found.answer(first.id) == found.answer(first.id.partition(".")[0]) == "listed"
            assert all(job.queue in {"normal", "express", "workq"} for job in found.jobs.values())
        else:
            assert sample.name in OUTAGES | UNKNOWN.keys() | FINISHED.keys() | EMPTY

    def test_text_and_json_agree(self) -> None:
        names = {sample.name for sample in LISTINGS}
        pairs = [name for name in names if f"{name}_-F_json" in names]
        assert len(pairs) > 20
        by_name = {sample.name: sample for sample in LISTINGS}
        for name in pairs:
            assert read(by_name[name]).jobs == read(by_name[f"{name}_-F_json"]).jobs, name

    def test_long_lines_are_the_same_jobs(self) -> None:
        short, wide = (read(sample) for sample in LISTINGS if sample.name in {"qstat_-f", "qstat_-f_-w"})
        assert len(short.jobs) == 9
        assert [(job.id, job.state, job.comment) for job in short.jobs.values()] == [
            (job.id, job.state, job.comment) for job in wide.jobs.values()
        ]

    def test_a_whole_job(self) -> None:
        job = one("job_ok.qstat_-x_-f")
        assert job == JobStatus(
            id="111.pbs-server", name="ok_job", state=State.FINISHED, queue="normal", substate=92, exit_status=0,
            comment="Job run at Sat Nov 21 at 07:27 on (pbs-mom1:ncpus=2:mem=1048576kb:jobfs=1048576kb) and finished",
            resources={
                "jobfs": "1gb", "mem": "1gb", "ncpus": "2", "nodect": "1", "place": "free",
                "select": "1:ncpus=2:mem=1gb:jobfs=1gb", "storage": "gdata/ab12+scratch/ab12", "walltime": "00:05:00",
            },
            used={
                "cpupercent": "59", "cput": "00:00:04", "mem": "219268kb", "ncpus": "2", "vmem": "227408kb",
                "walltime": "00:00:15",
            },
            nodes=("pbs-mom1",), started=as_time("2026-11-21 07:27:53", "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
        assert one("job_envscatter.qstat_-x_-f_-F_json").nodes == ("pbs-mom1", "pbs-mom2")
        assert not one("job_bad_output_path.qstat_-x_-f_-F_json").delivered

    def test_numbers_and_names_are_unchanged(self) -> None:
        assert one("job_numeric_strings.qstat_-f_-F_json").name == "e14"
        job = read_json(wrapped(Job_Name=123, comment=True, substate=True, exec_host=None, queue=None), b"", 0).jobs
        assert (job["7.s"].name, job["7.s"].comment, job["7.s"].substate, job["7.s"].nodes) == ("123", "true", None, ())

    @pytest.mark.parametrize("sample", samples("read_nodes"), ids=lambda sample: sample.name)
    def test_pbsnodes(self, sample: Sample) -> None:
        found = read_nodes(sample.stdout, sample.stderr, sample.code)
        if sample.name in OUTAGES:
            assert found.outage
            assert not found.nodes
            return
        assert found.outage is None
        first, second = found.nodes["pbs-mom1"], found.nodes["pbs-mom2"]
        states, jobs, takes = {
            "pbsnodes_-a_-F_json": (("job-busy", "free"), ((4, 2), (0, 0)), (False, True)),
            "busy.pbsnodes_-a_-F_json": (("job-busy", "free"), ((4, 2), (3, 1)), (False, True)),
            "node_offline.pbsnodes_-a_-F_json": (("job-busy", "offline"), ((4, 2), (2, 1)), (False, False)),
            "node_down_45s.pbsnodes_-a_-F_json": (("free", "down"), ((0, 0), (2, 1)), (True, False)),
            "node_down_requeued.pbsnodes_-a_-F_json": (("free", "down"), ((0, 0), (0, 0)), (True, False)),
        }[sample.name]
        assert (first.states, second.states) == ((states[0],), (states[1],))
        assert tuple((node.assigned_ncpus, len(node.jobs)) for node in (first, second)) == jobs
        assert (first.can_take_work, second.can_take_work) == takes
        assert second.in_service == (states[1] == "free")
        assert first.in_service
        assert (first.ncpus, first.mem) == (4, 8 * 1024**3)


class TestSlurmsWrapper:
    TEXT = (
        b"Job Id:\t12\n\tJob_Name = w\n\tJob_Owner = u@h\n\tjob_state = R\n\tqueue = normal\n\tqtime = Sat Nov 21\n"
        b"\tmtime = Sat Nov 21\n\tAccount_Name = ab12\n\texec_host = n1/2+n2/2\n\tPriority = 4294901759\n"
        b"\teuser = u(1000)\n\tegroup = u(1000)\n\tResource_List.walltime = 48:00:00\n\tResource_List.nodect = 2\n"
        b"\tResource_List.ncpus = 4\n\nJob Id:\t13\n\tJob_Name = v\n\tjob_state = C\n\tqueue = express\n\n"
    )

    def test_jobs(self) -> None:
        found = read_text(self.TEXT, b"", 0)
        assert found.jobs["12"] == JobStatus(
            id="12", name="w", state=State.RUNNING, queue="normal", nodes=("n1", "n2"),
            resources={"walltime": "48:00:00", "nodect": "2", "ncpus": "4"},
        )  # fmt: skip
        assert found.jobs["13"].state == "finished"
        assert [found.answer(job_id) for job_id in ("12", "13", "14")] == ["listed", "listed", "unknown to the server"]

    def test_out_of_memory(self) -> None:
        """The wrapper prints U for Slurm's OUT_OF_MEMORY, which means suspended in PBS."""
        assert read_text(b"Job Id:\t12\n\tjob_state = U\n\n", b"", 0).jobs["12"].state == "finished"
        assert read_text(b"Job Id: 12.s\n    job_state = U\n\n", b"", 0).jobs["12.s"].state == "suspended"

    def test_no_jobs_and_no_output(self) -> None:
        assert read_text(b"", b"", 153).answer("14") == "unknown to the server"
        assert read_json(b"", b"", 153).answer("14") == "no answer"

    def test_the_controller_is_down(self) -> None:
        found = read_text(b"", b"Problem loading jobs.\n", 255)
        assert found.outage == "qstat ended with exit code 255: Problem loading jobs."
        assert found.answer("12") == "no answer"


class TestDoubt:
    """Ambiguous output is an outage, whatever the exit code."""

    @pytest.mark.parametrize("code", [0, 1, 35, 153, 255, -15])
    @pytest.mark.parametrize(
        "stdout",
        [b"", b"\n", b"{}", b"[]", b"null", b"{", b'{"Jobs": {}}', f'{{{HEAD}, "Jobs": []}}'.encode(),
         f'{{{HEAD}, "Jobs": {{"7.s": 3}}}}'.encode(), f'{{{HEAD}, "Jobs": {{'.encode(), b"\xff\xfe", b"[" * 10**5,
         f'{{{HEAD}, "n": {"9" * 5000}}}'.encode()],
    )  # fmt: skip
    def test_garbled_json(self, stdout: bytes, code: int) -> None:
        found = read_json(stdout, b"", code)
        assert found.outage
        assert found.answer("7") == "no answer"
        assert read_nodes(stdout, b"", code).outage

    @pytest.mark.parametrize(
        ("code", "stderr"),
        [
            (255, b"Connection refused\nqstat: cannot connect to server s (errno=15010)\n"),
            (153, b""),
            (153, b"qstat: Unknown Job Id 8.s\nsomething else\n"),
            (1, b"qstat: Unknown Job Id 8.s\n"),
            (-9, b""),
        ],
    )
    def test_valid_json_of_a_failed_command_is_an_outage(self, code: int, stderr: bytes) -> None:
        found = read_json(f"{{{HEAD}}}".encode(), stderr, code)
        assert found.outage
        assert found.answer("7") == "no answer"
        assert read_json(f"{{{HEAD}}}".encode(), stderr, 0).outage is None

    def test_the_sentence(self) -> None:
        assert read_json(b"", b"", 0).outage == "qstat printed nothing"
        assert read_json(b'{"a', b"", 0).outage == "qstat printed an incomplete listing, starting with '{\"a'"
        assert read_json(b"", b"", -9).outage == "qstat was killed by signal 9"
        assert (
            read_nodes(b"", b"Connection refused\n", 1).outage == "pbsnodes ended with exit code 1: Connection refused"
        )

    @pytest.mark.parametrize("stdout", [b"x", b"Job Id: 7.s\n    Job_Name = a\n", b"\nJob id  Name\n---\n7.s  a\n"])
    def test_garbled_text(self, stdout: bytes) -> None:
        assert read_text(stdout, b"", 0).outage
        assert read_text(stdout, b"", 0).answer("7") == "no answer"

    def test_no_jobs(self) -> None:
        assert read_text(b"", b"", 0) == Listing()
        assert read_json(f"{{{HEAD}}}".encode(), b"", 0) == Listing()

    def test_a_subjob_of_an_array_that_is_listed_as_one(self) -> None:
        (found,) = (read(sample) for sample in LISTINGS if sample.name == "job_array_running.qstat_-f_-F_json")
        assert found.answer("135[2]") == found.answer("135[2].pbs-server") == "no answer"
        assert found.answer("135[]") == "listed"
        assert found.answer("136[2]") == "unknown to the server"

    def test_a_variable_that_looks_like_an_attribute(self) -> None:
        stdout = (
            b"Job Id: 7.s\n    job_state = R\n    queue = normal-exec\n"
            b"    Variable_List = A=x\n    job_state = F\n\tB=y\n"
            b"    comment = a = b\n\t c\n    Resource_List = odd\n    Resource_List.mem = 1gb\n\n"
        )
        job = read_text(stdout, b"", 0).jobs["7.s"]
        assert (job.state, job.queue, job.comment) == ("running", "normal-exec", "a = b c")
        assert job.resources == {"mem": "1gb"}

    def test_odd_nodes(self) -> None:
        nodes = {
            "a": {"state": "free,resv-exclusive", "jobs": "1.s/0, 1.s/1, 2.s/0", "resources_available": {"mem": 1}}
        }
        found = read_nodes(f'{{{HEAD}, "nodes": {json.dumps(nodes)}}}'.encode(), b"", 0).nodes["a"]
        assert (found.states, found.jobs, found.mem) == (("free", "resv-exclusive"), ("1.s", "2.s"), 1)
        assert found.in_service
        assert not found.can_take_work


READERS = st.sampled_from([read_json, read_text])
CODES = st.integers(-64, 255)
QUIET = settings(database=None, deadline=None)


class TestAnything:
    @QUIET
    @given(READERS, st.binary().filter(bytes.strip), st.binary(), CODES)
    def test_noise_proves_nothing_about_jobs(self, reader: Reader, stdout: bytes, stderr: bytes, code: int) -> None:
        found = reader(stdout, stderr, code)
        assert found.outage
        assert not found.jobs
        assert found.answer("7") == "no answer"
        assert read_nodes(stdout, stderr, code).outage

    @QUIET
    @given(st.data())
    def test_a_truncated_listing_is_an_outage(self, data: st.DataObject) -> None:
        sample = data.draw(st.sampled_from([s for s in LISTINGS if s.reader == "read_json" and s.code == 0]))
        end = data.draw(st.integers(0, len(sample.stdout.rstrip()) - 1))
        found = read_json(sample.stdout[:end], b"", 0)
        assert found.outage
        assert found.answer("111") == "no answer"

    @QUIET
    @given(st.data(), CODES)
    def test_damaged_output_never_raises(self, data: st.DataObject, code: int) -> None:
        sample = data.draw(st.sampled_from([s for s in LISTINGS if len(s.stdout) < 20_000]))
        at = data.draw(st.integers(0, len(sample.stdout)))
        stdout = sample.stdout[:at] + data.draw(st.binary(max_size=8)) + sample.stdout[at + 3 :]
        for reader in (read_json, read_text, read_nodes):
            reader(stdout, sample.stderr, code)

    @QUIET
    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
                        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
    def test_values_of_any_type(self, value: object) -> None:
        names = ("Job_Name", "job_state", "queue", "substate", "Exit_status", "comment", "Resource_List",
                 "resources_used", "exec_host", "Stageout_status")  # fmt: skip
        found = read_json(wrapped(**dict.fromkeys(names, value)), b"", 0)
        assert found.answer("7") == "listed"
        keys = ("state", "jobs", "resources_available", "resources_assigned")
        nodes = json.dumps({"a": dict.fromkeys(keys, value)})
        assert "a" in read_nodes(f'{{{HEAD}, "nodes": {nodes}}}'.encode(), b"", 0).nodes

    @QUIET
    @given(st.sampled_from(sorted(STATES)), st.integers(1, 10**9), st.sampled_from(["", ".s", ".gadi-pbs"]))
    def test_states(self, letter: str, number: int, server: str) -> None:
        as_json = f'{{{HEAD}, "Jobs": {{"{number}{server}": {{"job_state": "{letter}", "queue": "q"}}}}}}'
        as_text = f"Job Id: {number}{server}\n    job_state = {letter}\n    queue = q\n\n"
        as_slurm = f"Job Id:\t{number}{server}\n\tjob_state = {letter}\n\tqueue = q\n\n"
        for found in (
            read_json(as_json.encode(), b"", 0),
            *(read_text(t.encode(), b"", 0) for t in (as_text, as_slurm)),
        ):
            job = found.find(str(number))
            assert job is not None
            assert job.state in {STATES[letter], "finished" if letter == "U" else None}
            assert found.answer(f"{number}0") == "unknown to the server"
