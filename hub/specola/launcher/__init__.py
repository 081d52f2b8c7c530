"""The only privileged process: it starts a given program as a given person's account, and nothing else.

It listens on a unix socket of the service account, asks the kernel who is calling, takes one line of JSON and answers
one. It reads no file that the service account may write, so that whoever takes over the hub still cannot name a home,
an account or a program of root's: accounts come from the ledger, homes from the command line that root gave.

verb      asks                                              answers
start     key, person, argv, env, files, directory,         pid, account, home, files, limits
          memory_gib, cores, log
poll      key                                               alive, pid | code
signal    key, signum                                       as poll
end       key, grace                                        as poll
end_all   prefix, grace                                     ended
keys      prefix                                            keys
log       key, tail_bytes                                   log
files     key, files                                        files
account   person                                            name, uid, gid, home, runtime
"""
