"""Other programs under SpanRelay: coding agents are started, listened to, held by policy, and told as trajectories.

`running` is the whole of it: `agents` knows the programs and how each is told where to report, `receiver` takes in
what they report, `judging` says which tools may run, `folder` keeps it all on disk, and `finishing` makes trajectories
of that. `hook_client` is what an agent runs at each hook.
"""
