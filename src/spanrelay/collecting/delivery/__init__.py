"""Delivers the documents of a folder to other places as well: a server over HTTP, object storage.

The way of a document: `outlet` hears from the sessions that it is about to be written and that it has been, `journal`
remembers on disk that it is not delivered, `courier` sends it to a `target`, again and again, until it is taken or
refused for good, and `letters` keeps what was refused. A document is read from the folder when it is sent, so that
nothing but its name waits, and the newest of it arrives.
"""
