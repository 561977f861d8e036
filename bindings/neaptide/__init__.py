# SPDX-License-Identifier: Apache-2.0
"""Read recordings made by ``neap run``.

import neaptide

with neaptide.open("app.neap") as rec:
    for row in rec.report(metric="peak", limit=20):
        print(row.value, row.count, row.frames[0].function)
"""

from neaptide._neap import (
    DamagedFileError,
    Error,
    ErrorReport,
    ErrorRow,
    ForeignFileError,
    Frame,
    MapBytes,
    MapReport,
    MapRow,
    MissingFileError,
    NewerFileError,
    Recording,
    Report,
    Row,
    SqlError,
    Table,
    Total,
    UsageError,
    __version__,
    open,
)

__all__ = [
    "DamagedFileError",
    "Error",
    "ErrorReport",
    "ErrorRow",
    "ForeignFileError",
    "Frame",
    "MapBytes",
    "MapReport",
    "MapRow",
    "MissingFileError",
    "NewerFileError",
    "Recording",
    "Report",
    "Row",
    "SqlError",
    "Table",
    "Total",
    "UsageError",
    "__version__",
    "open",
]
