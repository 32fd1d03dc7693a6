"""What may change or see a record: sanitizers, metadata injectors, subscribers, and the masks of credentials.

Sanitizers fail closed, the rest open: nothing here may raise into the application or change what it sends.
"""
