"""``--help``: read from ``conf/`` alone, so that it shows at once and is never out of date."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
# In an installed wheel conf/ lies inside the package, in a checkout beside it.
CONF_DIR = next(p for p in (_PACKAGE / "conf", _PACKAGE.parent / "conf") if p.is_dir())

_TEXT = """kernelexp: train a kernel machine, record the run with MLflow.

  python -m kernelexp [KEY=VALUE ...]              one run
  python -m kernelexp --multirun KEY=A,B,C ...     a run for each combination
  python -m kernelexp experiment=NAME              a preset: the runs of a figure
  python -m kernelexp.search KEY=LOW..HIGH ...     the best of ranges and choices, by held-out points
  python -m kernelexp.report                       a page of what was recorded
  python -m kernelexp.predict RUN FILE             what a run's model says of new rows

for example
  python -m kernelexp kernel=laplacian dataset=fmnist
  python -m kernelexp --multirun noise=0,0.05,0.1

Keys: noise, validation (0.1, say, of the training points, to choose by), cv (folds), seed, device, dtype, precision,
data_dir, compare, and GROUP.KEY of the groups below;
of presets scale=small (default) or paper; rerun=true also what a sweep would skip; resume=false starts a run
that was killed from its beginning; dry_run=true runs nothing; retries=2 tries again what was killed or had no memory.
--cfg job shows the whole configuration with these overrides, --version the version, --hydra-help Hydra's
own options.
"""


def usage(conf: Path) -> str:
    """The help text: every group and option of ``conf`` with the first line of its file."""
    parts = [_TEXT]
    defaults = (conf / "config.yaml").read_text()
    for group in sorted(path for path in conf.iterdir() if path.is_dir()):
        plus = "" if f"- {group.name}:" in defaults else "+"
        parts.append(f"{plus}{group.name}=")
        for option in sorted(group.glob("*.yaml")):
            parts.append(f"  {option.stem:20} {describe(option)}")
    return "\n".join(parts)


def describe(option: Path) -> str:
    """The first comment of an option's file that is not a directive to Hydra (``# @package``); empty without one."""
    lines = option.read_text().splitlines()
    comments = (line.lstrip("# ") for line in lines if line.startswith("#"))
    return next((comment for comment in comments if not comment.startswith("@")), "")
