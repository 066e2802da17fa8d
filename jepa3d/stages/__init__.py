"""The seven verbs, one module each: download, convert, patchify, pretrain, embed, evaluate, report.

A stage reads files, makes one pure call, and writes files; files are all that passes between two stages.
"""
