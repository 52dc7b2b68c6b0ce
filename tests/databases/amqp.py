"""An AMQP client with pika, for the tests with a broker: orders on a durable topic exchange.

amqp.py publish HOST COUNT   declares what is durable, publishes persistent messages and waits for each one's confirmation
amqp.py consume HOST COUNT   prints so many messages, in order, and acknowledges each
amqp.py wait HOST SECONDS    says nothing but heartbeats for so long, then uses the connection again
amqp.py hold HOST            holds a connection until its standard input ends
"""

import sys

import pika

EXCHANGE, QUEUE, KEY = "orders", "order-events", "order.*"


def connect(host, **parameters):
    return pika.BlockingConnection(
        pika.ConnectionParameters(
            host,
            connection_attempts=1,
            socket_timeout=15,
            stack_timeout=20,
            blocked_connection_timeout=15,
            **parameters,
        )
    )


def declare(channel):
    channel.exchange_declare(EXCHANGE, "topic", durable=True)
    channel.queue_declare(QUEUE, durable=True)
    channel.queue_bind(QUEUE, EXCHANGE, KEY)


def publish(host, count):
    with connect(host) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        persistent = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        for number in range(count):
            body = b'{"order": %d}' % number
            # Raises what the broker does not confirm, or cannot route.
            channel.basic_publish(EXCHANGE, "order.created", body, persistent, mandatory=True)
        # Bound by a pattern: this one is for nobody.
        try:
            channel.basic_publish(EXCHANGE, "invoice.created", b"", persistent, mandatory=True)
            sys.exit("a message that no queue wants was routed")
        except pika.exceptions.UnroutableError:
            pass
    print(f"published {count}", flush=True)


def consume(host, count):
    with connect(host) as connection:
        channel = connection.channel()
        channel.basic_qos(prefetch_count=10)
        for method, properties, body in channel.consume(QUEUE, inactivity_timeout=15):
            if method is None:
                sys.exit("no message came")
            print(method.routing_key, properties.delivery_mode, body.decode(), flush=True)
            channel.basic_ack(method.delivery_tag)
            count -= 1
            if count == 0:
                break
        channel.cancel()
        left = channel.queue_declare(QUEUE, passive=True).method.message_count
    print(f"left {left}", flush=True)


def wait(host, seconds):
    # A broker that hears nothing for two heartbeats closes the connection; so does a client.
    with connect(host, heartbeat=1) as connection:
        connection.process_data_events(time_limit=seconds)
        left = connection.channel().queue_declare(QUEUE, passive=True).method.message_count
    print(f"left {left}", flush=True)


def hold(host):
    with connect(host):
        print("held", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    command, host, *rest = sys.argv[1:]
    {"publish": publish, "consume": consume, "wait": wait, "hold": hold}[command](host, *map(int, rest))
