"""Is everything well? Each check yields findings: name, severity, sentence, remedy.

`service.MACHINE` is the doctor's list, `fleet.findings` the dashboard's; system.py has Django's system checks, which
the doctor runs as its first.
"""
