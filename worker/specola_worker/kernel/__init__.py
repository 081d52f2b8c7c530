"""A kernel where the GPU is, reached through one websocket that it opens itself.

`python -m specola_worker.kernel FILE` reads an order (`order.py`), forks a kernel from a process that has imported
ipykernel already (`zygote.py`, `app.py`), dials the user's server and splices the kernel's channels to it (`worker.py`,
`wire.py`). Nothing here listens on a port: the kernel's own sockets lie in a directory that only its account can enter.
"""
