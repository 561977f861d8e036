# SPDX-License-Identifier: Apache-2.0
"""How answers look: text for people, JSON for machines."""
