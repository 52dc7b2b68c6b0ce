"""A gRPC service and its client with grpcio, for the tests with pods: bytes in, the server's name and the bytes out.

grpc_echo.py serve ADDRESS NAME
grpc_echo.py call ADDRESS COUNT   prints one answer a line; ends with 1 at the first failure
"""

import signal
import sys
import threading
from concurrent import futures

import grpc

METHOD = "/tsunagi.tests.Echo/Say"


def serve(address, name):
    def say(request, context):
        return name.encode() + b": " + request

    methods = grpc.method_handlers_generic_handler(
        "tsunagi.tests.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)}
    )
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    server.add_generic_rpc_handlers((methods,))
    if server.add_insecure_port(address) == 0:
        sys.exit(f"cannot listen on {address}")
    server.start()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(5).wait()


def call(address, count):
    with grpc.insecure_channel(address) as channel:
        say = channel.unary_unary(METHOD)
        for number in range(count):
            print(say(b"%d" % number, timeout=20).decode(), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    else:
        call(sys.argv[2], int(sys.argv[3]))
