"""Make one embedding of several: what a student is taught, or an ensemble to search and score.

python tools/join_vectors.py OUT.parquet DIM FILE.parquet FILE.parquet ...

Files are what `exprembed embed` writes; the faces and their other columns are those of the first.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main(out: str, dim: str, *files: str) -> None:
    """Write the faces of the first file with the joined vectors of all."""
    import pandas as pd

    from exprembed.cli._vectors import read_vectors
    from exprembed.errors import ExprembedError
    from exprembed.files import atomic_path
    from exprembed.training.teachers import join_vectors

    try:
        read = [read_vectors(Path(file)) for file in files]
        joined = pd.concat([read[0].faces, join_vectors([file.vectors for file in read], int(dim))], axis=1)
    except (ExprembedError, ValueError) as error:
        sys.exit(f"error: {error}")
    with atomic_path(Path(out)) as temporary:
        joined.to_parquet(temporary)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
