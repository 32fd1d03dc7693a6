"""What can be told of finished trajectories, whoever wrote them: how two differ, what they cost, what trains on them.

Nothing here prints, and nothing changes a document. `comparison` and `alignment` compare, `figures` count,
`conversations` and the formats beside it make rows of training files.
"""
