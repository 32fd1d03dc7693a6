"""A trajectory, or a folder of them, as one HTML file that asks nobody for anything.

What an agent wrote is text wherever it stands: the template's library escapes it, and it never becomes an address, an
id, a class, a style or a script.
"""
