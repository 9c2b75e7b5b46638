"""`cross_view_loc models`: which weights there are and what made them; fetch and import of released ones."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  cross_view_loc models list
  cross_view_loc models list --check --json
  cross_view_loc models fetch depth-anything-v2-metric-outdoor-small
  cross_view_loc models fetch LiheYoung/depth-anything-small-hf --accept-licence
  cross_view_loc models import loc2 loc2_vigor.pth --variant vigor
  cross_view_loc models import loc2 loc2_kitti.pth --variant kitti --out weights/loc2_kitti.safetensors
"""
IMPORT_EXAMPLES = """examples:
  cross_view_loc models import loc2 loc2_kitti.pth --variant kitti

The released weights are not ours: their code is AGPL-3.0. The file keeps saying so.
Images of two kinds were trained on: vigor (panoramas) and kitti (pinhole, looking ahead).
"""
FETCH_EXAMPLES = """examples:
  cross_view_loc models fetch depth-anything-v2-small
  cross_view_loc models fetch unik3d-vitl --accept-licence
  cross_view_loc models fetch owner/name --revision 0f1e2d3 --endpoint https://mirror.example.org

Name, licence and size come first, then one question. Interrupted or run again, it goes on where it was. Every file is
checked against the server's hash, and its SHA-256 is written into cross_view_loc.lock.json beside it: from then on this
command fetches the same commit and takes nothing else for it. HF_ENDPOINT, HF_HUB_OFFLINE and HF_TOKEN are respected;
the token goes to that host alone. Nothing else in this package downloads weights.
"""
NOT_KNOWN = "unknown until fetched"


def configure(parser: argparse.ArgumentParser) -> None:
    """Actions `list`, `fetch` and `import`; only `fetch` asks the network."""
    raw = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="weights that ship, were imported, were fetched or can be")
    listing.add_argument("--check", action="store_true", help="read fetched files and compare their hashes")
    fetching = actions.add_parser("fetch", help="download a released model", epilog=FETCH_EXAMPLES, formatter_class=raw)
    fetching.add_argument("name", metavar="NAME", help="of `models list`, or owner/name on Hugging Face")
    fetching.add_argument("--accept-licence", action="store_true", help="for scripts: yes to the licence and the size")
    fetching.add_argument(
        "--revision", default="", help="branch, tag or commit; default the one fetched before, or main"
    )
    fetching.add_argument("--endpoint", default="", metavar="URL", help="default HF_ENDPOINT or huggingface.co")
    importing = actions.add_parser(
        "import", help="convert released weights of another project", epilog=IMPORT_EXAMPLES, formatter_class=raw
    )
    importing.add_argument("project", choices=("loc2",), help="whose weights (arXiv 2509.09792)")
    importing.add_argument("file", type=Path, help=".pt, .pth, .ckpt or .safetensors with the matcher's state dict")
    importing.add_argument("--variant", choices=("vigor", "kitti"), required=True, help="what they were trained on")
    importing.add_argument("--out", type=Path, help="folder or .safetensors file; default the user's data folder")
    for action in (listing, fetching):
        action.add_argument("--folder", type=Path, help="where models are; default the user's data folder")
    for action in (listing, fetching, importing):
        action.add_argument("--json", action="store_true", help="print one JSON object and nothing else")


def execute(options: argparse.Namespace) -> int:
    """List, fetch or import."""
    if options.action == "import":
        from cross_view_loc.matching.loc2.convert import import_checkpoint

        rows = [describe("matcher", import_checkpoint(options.file, options.variant, options.out))]
    elif options.action == "fetch":
        rows = [fetch_model(options)]
    else:
        rows = list_models(options.folder, options.check)
    if options.json:
        print(json.dumps({"results": rows}))
    elif rows and rows[0]:
        print(table(rows))
    return 0 if rows and rows[0] else 1


def list_models(folder: Path | None, check: bool = False) -> list[dict[str, Any]]:
    """The weights that ship, the imported ones of a folder (default: the user's data folder), then the registry's."""
    from cross_view_loc.models.registry import MODELS
    from cross_view_loc.models.store import models_folder
    from cross_view_loc.networks.weights import DEPTH_FILE, MATCHER_FILE, SHIPPED

    shipped = (("matcher", MATCHER_FILE, "our matcher"), ("depth", DEPTH_FILE, "metric depth of streets, compact"))
    rows = [describe(role, SHIPPED / file) | {"purpose": purpose} for role, file, purpose in shipped]
    rows += [describe("matcher", path) for path in sorted((folder or models_folder()).glob("*.safetensors"))]
    known = {model.repository for model in MODELS.values()}
    rows += [registry_row(model.name, folder, check) for model in MODELS.values()]
    locks = sorted((folder or models_folder()).glob("*--*/cross_view_loc.lock.json"))
    others = [path.parent.name.replace("--", "/", 1) for path in locks]
    return rows + [registry_row(name, folder, check) for name in others if name not in known]


def describe(role: str, path: Path) -> dict[str, Any]:
    """One row: what is in a file of weights. Raises ModelError."""
    from cross_view_loc.networks.weights import load_weights

    weights = load_weights(path)
    return {
        "name": path.stem,
        "role": role,
        "installed": "yes",
        "file": str(weights.path),
        "megabytes": round(weights.path.stat().st_size / 1e6, 2),
        "millions": round(sum(t.numel() for t in weights.tensors.values() if t.is_floating_point()) / 1e6, 2),
        "licence": weights.metadata.get("licence", "Apache-2.0"),
        "purpose": str(weights.metadata.get("format", "")),
        "metadata": weights.metadata,
    }


def registry_row(name: str, folder: Path | None, check: bool = False) -> dict[str, Any]:
    """One row: a model of others, by registry name or repository; damage is told, not raised."""
    from cross_view_loc.errors import ModelError
    from cross_view_loc.models.installed import fetched
    from cross_view_loc.models.lock import check_files
    from cross_view_loc.models.registry import registered
    from cross_view_loc.models.store import accepted_licence, repository_folder

    model = registered(name)
    repository = model.repository if model is not None else name
    place, lock, state = repository_folder(repository, folder), None, "no"
    try:
        found = fetched(repository, folder)
        if found is not None:
            lock = found[1]
            fault = check_files(place, lock, thoroughly=True) if check else ""
            state = f"damaged: {fault}" if fault else "yes"
    except ModelError as error:
        state = f"damaged: {error}"
    return {
        "name": name,
        "role": model.role if model is not None else "depth",
        "installed": state,
        "file": str(place) if state != "no" else "",
        "repository": repository,
        "revision": lock.revision if lock is not None else "",
        "megabytes": round(lock.size / 1e6, 2) if lock is not None else None,
        "stated_megabytes": model.megabytes if model is not None else None,
        "millions": model.millions if model is not None else None,
        "licence": model.licence if model is not None else lock.licence if lock is not None else "unknown",
        "must_accept": model.must_accept if model is not None else True,
        "accepted": bool(accepted_licence(repository, folder)),
        "measure": model.measure if model is not None else "",
        "sha256": {file: each.sha256 for file, each in lock.files.items()} if lock is not None else {},
        "purpose": model.purpose if model is not None else "fetched by its repository's name",
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The rows for people; sizes are those of what is here, else, as parameters, those that a model's page states."""
    head = ("name", "role", "here", "licence", "parameters", "size", "for")
    lines = [head]
    for row in rows:
        licence = str(row["licence"]) + (" (to accept)" if row.get("must_accept") and not row.get("accepted") else "")
        millions, megabytes, stated = row["millions"], row["megabytes"], row.get("stated_megabytes")
        size = NOT_KNOWN if stated is None else f"about {stated:.0f} MB"
        if megabytes is not None:
            size = f"{megabytes:.0f} MB" if megabytes >= 10 else f"{megabytes:.1f} MB"
        lines.append(
            (
                str(row["name"]),
                str(row["role"]),
                str(row["installed"]).split(":")[0],
                licence,
                "" if millions is None else f"{millions:.3g} M",
                size,
                str(row["purpose"]) if row["installed"] in ("yes", "no") else str(row["installed"]),
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def fetch_model(options: argparse.Namespace) -> dict[str, Any]:
    """Fetch one model after a question; an empty row when the answer is no. Raises ModelError, InputError."""
    from tqdm import tqdm

    from cross_view_loc.models.fetch import already_fetched, fetch, is_accepted, locate_repository, plan_fetch
    from cross_view_loc.models.hub import Hub
    from cross_view_loc.models.store import accepted_licence

    repository, row = locate_repository(options.name)
    name = row.name if row is not None else repository
    lock = already_fetched(options.name, options.revision, options.folder)
    if lock is not None and accepted_licence(repository, options.folder):
        print(f"{name} is here, and its {len(lock.files)} files are what was fetched", file=sys.stderr)
        return registry_row(name, options.folder)
    hub = Hub(options.endpoint)
    try:
        plan = plan_fetch(hub, options.name, options.revision, options.folder)
        for line in _plan_lines(plan, hub.endpoint):
            print(line, file=sys.stderr)
        if not (options.accept_licence or is_accepted(plan, options.folder) or _agreed(plan)):
            print("nothing was fetched", file=sys.stderr)
            return {}
        with tqdm(total=plan.size, unit="B", unit_scale=True, file=sys.stderr, disable=None) as bar:
            fetch(hub, plan, options.folder, lambda count: bar.update(count) and None)
    finally:
        hub.close()
    where = name if options.folder is None and row is not None else f"hf:{plan.folder if options.folder else name}"
    if row is None or row.role == "depth":
        print(f"to use it: depth: {where}", file=sys.stderr)
    return registry_row(name, options.folder)


def _plan_lines(plan: Any, endpoint: str) -> list[str]:
    stated = plan.repository.licence
    other = f" (its page states {stated})" if stated and stated.lower() != plan.licence.lower() else ""
    lines = [
        f"{plan.name}: {endpoint}/{plan.repository.name} at {plan.repository.commit[:12]}",
        f"  licence  {plan.licence}{other}"
        + (", which restricts use or is not known here" if plan.must_accept else ""),
    ]
    sizes = [(file.name, "unknown size" if file.size is None else f"{file.size / 1e6:.1f} MB") for file in plan.files]
    lines += [f"  {size:>12}  {name}" for name, size in sizes]
    pickles = [file.name for file in plan.files if file.name.endswith(".bin")]
    note = ["  note     these weights are a Python pickle; it is only ever read as tensors"] if pickles else []
    return [*lines, *note, f"  into     {plan.folder}, {plan.size / 1e6:.1f} MB in all"]


def _agreed(plan: Any) -> bool:
    licence = f"and accept the licence {plan.licence} " if plan.must_accept else ""
    print(f"Fetch {plan.size / 1e6:.1f} MB {licence}[y/N]? ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
