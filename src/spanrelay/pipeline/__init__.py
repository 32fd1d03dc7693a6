"""What happens to a call: its middleware in order, the real call in the middle, its stream's end.

`call` is what is in flight, `middleware` what may stand around it, `flow` the order of one call without any
I/O, `stream` the one home of stream endings, `driver` the only place with a sync and an async form of it all.
"""
