"""Read by every IPython kernel of this environment, before it starts.

Where accounts are separated a kernel has no TCP port at all. Its channels are sockets in a private directory
(`KernelManager.transport=ipc`), and two more ports that ipykernel opens on loopback are dealt with here:

- debugpy listens without asking who connects, so that another account could run code in this kernel: it is off;
- the pipe for what forked children print (ipykernel 7.4, `IOPubThread`) becomes a socket in the private directory too.
"""

import os

if os.environ.get("SPECOLA_SEPARATE_ACCOUNTS") == "1":
    import ipykernel.debugger
    import zmq
    from ipykernel.iostream import IOPubThread
    from jupyter_core.paths import jupyter_runtime_dir
    from zmq.eventloop.zmqstream import ZMQStream

    ipykernel.debugger._is_debugpy_available = False  # noqa: SLF001 - there is no setting for it

    def _pipe_in(self: IOPubThread) -> None:
        self._pipe_uuid = os.urandom(16)
        self._pipe_address = f"ipc://{jupyter_runtime_dir()}/pipe-{os.getpid()}"
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(self._pipe_address)
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _pipe_out(self: IOPubThread) -> tuple[zmq.Context, zmq.Socket]:
        context = zmq.Context()  # a new one: this is after the fork
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000
        pipe.connect(self._pipe_address)
        return context, pipe

    IOPubThread._setup_pipe_in = _pipe_in  # noqa: SLF001 - the same
    IOPubThread._setup_pipe_out = _pipe_out  # noqa: SLF001 - the same
