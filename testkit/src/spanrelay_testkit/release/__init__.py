"""A release: every distribution of this clone, built, looked into, and tried where the clone is not.

    python -m spanrelay_testkit.release                  # `make dist`
    python -m spanrelay_testkit.release --version 0.2.0  # write another version into all of them

Nothing is uploaded here. The way: `projects` says what there is and that it has one version, `building` makes the
files, `contents` looks into them, `trial` installs them into an environment of their own and runs the demo there.
"""
