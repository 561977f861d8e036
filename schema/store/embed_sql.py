#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turn schema/sql/*.sql into the C tables that schema/store/migrate.h declares.

usage: embed_sql.py OUTPUT.c MIGRATION.sql... views.sql

Files named NNNN_*.sql are migrations and must number 1, 2, 3 ... without a gap;
views.sql holds CREATE VIEW statements, whose names are listed as well. Comments and
blank lines stay out: what is stored in a recording's sqlite_schema is the statement.
"""

import os
import re
import sys


def c_string(text: str) -> str:
    lines = []
    for line in text.splitlines():
        escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("?", "\\?")
        lines.append(f'    "{escaped}\\n"')
    return "\n".join(lines)


def read_sql(path: str) -> str:
    with open(path, encoding="ascii") as file:
        lines = [re.sub(r"\s*--.*", "", line).rstrip() for line in file]
    return "\n".join(line for line in lines if line)


def main() -> int:
    output, sources = sys.argv[1], sys.argv[2:]
    migrations: list[tuple[str, str]] = []
    views = ""
    for path in sorted(sources, key=os.path.basename):
        name = os.path.basename(path)
        match = re.fullmatch(r"(\d{4})_(\w+)\.sql", name)
        if match:
            if int(match[1]) != len(migrations) + 1:
                sys.exit(f"{path}: migration {len(migrations) + 1} is missing")
            migrations.append((name, read_sql(path)))
        elif name == "views.sql":
            views = read_sql(path)
        else:
            sys.exit(f"{path}: neither NNNN_name.sql nor views.sql")
    names = re.findall(r"^CREATE VIEW (\w+) AS$", views, re.MULTILINE)
    if not migrations or not names or len(names) != views.count("CREATE"):
        sys.exit("no migrations, or views.sql is not a list of CREATE VIEW ... AS")

    text = [
        "/* Made by schema/store/embed_sql.py from schema/sql. */",
        '#include "schema/store/migrate.h"',
        '#include "schema/store/store.h"',
        "",
        f"_Static_assert(NEAP_STORE_VERSION == {len(migrations)},",
        '               "NEAP_STORE_VERSION is the number of migrations");',
        "",
        "const struct neap_migration neap_migrations[] = {",
    ]
    for name, sql in migrations:
        text.append(f'    {{"{name}",\n{c_string(sql)}}},')
    text += [
        "};",
        "const int neap_migration_count = NEAP_STORE_VERSION;",
        "",
        f"const char neap_views_sql[] =\n{c_string(views)};",
        "",
        "const char *const neap_view_names[] = {",
        *(f'    "{name}",' for name in names),
        "    NULL,",
        "};",
    ]
    with open(output + ".new", "w", encoding="ascii") as file:
        file.write("\n".join(text) + "\n")
    os.replace(output + ".new", output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
