"""How records leave the process: OTLP, delivered reliably, lines of JSON, trajectories of what others recorded.

Nothing here waits on the application's thread for who takes them, and what is lost is counted.
"""
