"""A gRPC service and its client with grpcio, bytes in and bytes out: every kind of call, and calls that end in every way.

service.py serve NAME [CERT KEY]   serves on a free port; what becomes of calls is told on stdout
service.py call ADDRESS AUTHORITY METHOD [TEXT] [SECONDS]
                                   prints each answer on a line of its own, then the status
"""

import signal
import sys
import threading
from concurrent import futures

import grpc

SERVICE = "tsunagi.tests.Calls"


def tell(text):
    print(text, flush=True)


def serve(name, certificate=None, key=None):
    ended = threading.Event()

    def say(request, context):
        return name.encode() + b": " + request

    def count(request, context):
        for number in range(int(request)):
            yield b"%d" % number

    def add(requests, context):
        return b"%d" % sum(int(request) for request in requests)

    def talk(requests, context):
        for request in requests:
            yield request.upper()

    def left(request, context):
        remaining = context.time_remaining()
        return b"for ever" if remaining is None or remaining > 86400 else b"%.3f" % remaining

    def fail(request, context):
        context.abort(grpc.StatusCode[request.decode()], "as asked")

    def wait(request, context):
        """Never answers; tells when it is over for the client."""
        over = threading.Event()
        context.add_callback(over.set)
        tell(f"waiting {request.decode()}")
        over.wait(30)
        tell(f"over {request.decode()}")
        return b""

    def drip(request, context):
        """The same behind a first message."""
        over = threading.Event()
        context.add_callback(over.set)
        yield b"first"
        over.wait(30)
        tell(f"over {request.decode()}")

    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Add": grpc.stream_unary_rpc_method_handler(add),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
        "Left": grpc.unary_unary_rpc_method_handler(left),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Drip": grpc.unary_stream_rpc_method_handler(drip),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    if certificate is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        with open(key, "rb") as key, open(certificate, "rb") as certificate:
            pair = (key.read(), certificate.read())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    if port == 0:
        sys.exit("cannot listen")
    server.start()
    tell(f"listening grpc=127.0.0.1:{port}")
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(None).wait()


def call(address, authority, method, text="", seconds="20"):
    path = f"/{SERVICE}/{method}"
    request, timeout = text.encode(), float(seconds)
    pieces = iter(text.encode().split(b","))
    # What the proxy answers must be seen, not what grpcio makes of it by calling again.
    options = [("grpc.default_authority", authority), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        try:
            if method in ("Count", "Drip"):
                answers = channel.unary_stream(path)(request, timeout=timeout)
                for answer in answers:
                    tell(answer.decode())
                    if method == "Drip":
                        answers.cancel()
            elif method == "Talk":
                for answer in channel.stream_stream(path)(pieces, timeout=timeout):
                    tell(answer.decode())
            elif method == "Add":
                tell(channel.stream_unary(path)(pieces, timeout=timeout).decode())
            else:
                tell(channel.unary_unary(path)(request, timeout=timeout).decode())
            tell("OK")
        except grpc.RpcError as error:
            tell(f"{error.code().name}: {error.details()}")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*sys.argv[2:])
    else:
        call(*sys.argv[2:])
