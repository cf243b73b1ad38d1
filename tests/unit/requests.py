"""Build requests for tests from sites and overrides, without the time that composing takes."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from hpcml.batch.check import check
from hpcml.batch.diagnostic import Diagnostic
from hpcml.batch.request import Places, Request
from hpcml.batch.resolution import resolve
from hpcml.config.compose import compose
from hpcml.config.presets import literal
from hpcml.site import Site
from hpcml.spec import AllocationSpec, HeadSpec, PbsSpec, SlurmSpec

SITES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "site").glob("*.yaml"))
KINDS = {"pbs": PbsSpec, "slurm": SlurmSpec, "allocation": AllocationSpec}

# Paths of a researcher, independent of the machine that runs the tests.
PLACES = {
    "gadi": Places("/home/123/me/study", "/g/data/ab12/venv/bin/python", "/g/data/ab12/venv", "/scratch/ab12/me/runs"),
    "polaris": Places("/home/me/study", "/eagle/ab12/venv/bin/python", "/eagle/ab12/venv", "/eagle/ab12/me/runs"),
    "aurora": Places("/home/me/study", "/flare/ab12/venv/bin/python", "/flare/ab12/venv", "/flare/ab12/me/runs"),
}
ELSEWHERE = Places("/home/me/study", "/home/me/venv/bin/python", "/home/me/venv", "/shared/me/runs")


@functools.cache
def _composed(name: str) -> dict[str, Any]:
    found = compose("hpcml plan", [f"site={name}", "cluster.project=ab12"])
    assert found is not None
    return dict(found.config["site"])


def _typed(overrides: Sequence[str]) -> DictConfig:
    """Parse overrides as hpcml does; later ones win."""
    found = OmegaConf.create({"site": {}, "cluster": {}, "head": {}})
    for override in OverridesParser.create().parse_overrides([literal(text) for text in overrides]):
        OmegaConf.update(found, override.key_or_group, override.value(), merge=False)
    return found


@functools.cache
def site(name: str) -> Site:
    """Return one of hpcml's sites."""
    return _changed(name, {})


def _changed(name: str, changes: Any) -> Site:
    found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Site), _composed(name), changes))
    assert isinstance(found, Site)
    return found


def places(name: str) -> Places:
    return PLACES.get(name, ELSEWHERE)


def resolved(
    name: str, overrides: Sequence[str], *, here: bool = False, at: Places | None = None
) -> tuple[Request, list[Diagnostic]]:
    """Resolve and check a request given as overrides, including ``cluster=KIND``."""
    chosen = [text.removeprefix("cluster=") for text in overrides if text.startswith("cluster=")]
    given = _typed([text for text in overrides if not text.startswith("cluster=")])
    machine = _changed(name, given.site) if given.site else site(name)
    kind = KINDS[chosen[-1] if chosen else machine.schedulers[0]]
    cluster = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), given.cluster))
    head = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(HeadSpec), given.head))
    assert isinstance(cluster, kind)
    assert isinstance(head, HeadSpec)
    request, diagnostics = resolve(cluster, head, machine, at or places(name), here or head.where == "here")
    return request, [*diagnostics, *check(request)]
