"""The collector of trajectories: takes OTLP in from any number of processes, and writes the trajectory of each session.

The way of a request: `http` and `grpc` take it, `intake` keeps it on disk before it is answered, `sessions` gathers
what it tells and writes the documents of what has fallen silent, by the same code as `spanrelay convert`, and `serving`
puts them together. What was accepted is not lost by a kill at any point: the next start reads the intake again.
"""
