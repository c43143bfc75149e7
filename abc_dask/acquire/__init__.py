"""Fetching files of a release: what is there, what is missing, transfers.

From the outside in: `remote` (what the server lists), `choose` (which files are meant),
`fetch` (fetch them), `check` (what is on disk). Beneath: `fetch_plan` (what is to be done,
and whether there is room), `transfer` (one file), `presence` (what lies there), `part`,
`journal` and `follow` (a file on its way). Nothing here knows what is in a file.
"""
