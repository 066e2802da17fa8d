"""Getting bytes from elsewhere: `jepa3d download`.

    addresses    which addresses are used, redirects, and what a server's refusal means
    transfer     one file, or a window of it: resumed where it broke, from the part that is here already
    remote_zip   only the members that are needed of an archive, by ranges

Nothing else opens the network, and TLS is never switched off.
"""
