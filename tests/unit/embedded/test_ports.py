import socket

from station.embedded.ports import LOOPBACK, free_port, is_free


def test_a_free_port_can_be_bound() -> None:
    port = free_port()
    with socket.socket() as server:
        server.bind((LOOPBACK, port))
        server.listen(1)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen(1)
        assert not is_free(server.getsockname()[1])


def test_free_ports_are_spread() -> None:
    assert len({free_port() for _ in range(20)}) > 10


def test_a_free_port_is_none_that_the_kernel_gives_to_clients() -> None:
    with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
        first, last = map(int, file.read().split())
    assert all(not first <= free_port() <= last for _ in range(20))
