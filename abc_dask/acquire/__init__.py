"""Acquiring the atlas: releases, manifests, downloads that cannot go wrong.

From the outside in: `remote` (what the server lists), `selection` (which files are
meant), `download` (bring them), `check` (what is on disk). Beneath: `fetch_plan` (what is
to be done, and is there room), `transfer` (one file), `presence` (what lies there, and
its remembered hash), `partial` and `follow` (a file on its way), `http` and what it rests
on. Nothing here knows what is in a file.
"""
