"""Turn a run's weights into packaged ones: float16, with what a card must state and the scores of a report.

python tools/package_weights.py RUN.safetensors NAME REPORT.json "ROW OF THE REPORT" [--mirror]
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main(weights: str, name: str, report: str, row: str, mirror: bool = False) -> None:
    """Write exprembed/weights/NAME.safetensors and its card."""
    from exprembed.models import load_model, weights_card
    from exprembed.report import Measure, Report

    found = Report.from_json(Path(report).read_text(encoding="utf-8"))
    table = found.sections[0]
    (scored,) = (entry for entry in table.rows if entry.name == row)
    values = {
        key: {"mean": round(value.mean, 2), "by_seed": [round(one, 2) for one in value.values]}
        for key, value in scored.ours.items()
        if isinstance(value, Measure)
    }
    run = weights_card(weights)
    original = run["recipe"]["data"]["options"].get("original_votes", 0)
    labels = f", FER2013's own label counted as {original} further votes" if original else ""
    card = {
        "licence": "Apache-2.0 for the weights as such; see training_data_licence for what their origin may imply",
        "training_data": run["training_data"]
        + f"; 48x48 grey FER2013 images with FER+ votes{labels}, and faces rendered by this library",
        "training_data_licence": "FER2013: collected by web search and released for research; its images carry their owners' rights. "
        "FER+ votes: MIT. Rendered faces: Apache-2.0",
        "intended_use": "Research: comparing, searching and grouping facial expressions in photos. Not for judging what a person "
        "feels, not for decisions about people, not for identification.",
        "known_limits": "Posed and spontaneous expressions of mostly adult, mostly Western faces from the web; rare classes (disgust, "
        "contempt) are few; large yaw and covered faces are rare in training. Distances follow how annotators named expressions"
        + (", and in part the emotion that a picture had been searched for." if original else "."),
        "scores": {
            "protocol": table.statement,
            "unit": table.unit,
            "row": row,
            "values": values,
            "made": found.provenance,
        },
        "recipe": run["recipe"],
        "seed": run["seed"],
    }
    model = load_model(weights)
    if mirror:
        model.with_mirror()
    target = model.save(ROOT / "exprembed" / "weights" / name, card, half=True)
    json.dump({"weights": str(target.relative_to(ROOT)), "bytes": target.stat().st_size}, sys.stdout)


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--mirror"]
    if len(words) != 4:
        sys.exit(__doc__)
    main(*words, mirror="--mirror" in sys.argv)
