/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The release. The one place that names it: neapd, the Python package and setup.py
 * read it from here. Hosted code only: what libneap.so and neapd have to agree on
 * is NEAP_WIRE_VERSION, what recordings are is NEAP_STORE_VERSION.
 */
#ifndef NEAP_SCHEMA_BASE_VERSION_H
#define NEAP_SCHEMA_BASE_VERSION_H

#define NEAP_VERSION "0.1.0"

#endif
