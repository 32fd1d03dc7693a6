"""Trajectories from a topic of Apache Kafka, by any number of assemblers in a consumer group.

The way of a record: `rekeying` reads the producers' topic and writes what is in it into a topic of our own, keyed by
session (`keying`), so that all of a session is in one partition; `assembling` reads that one, each partition by one
assembler. Its offset stays where the oldest record lies that may still be needed (`segments`): whoever gets the
partition next reads from there, and writes the same bytes.
"""
