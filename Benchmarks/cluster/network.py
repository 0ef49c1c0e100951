"""A cluster's network on one machine: a namespace for every worker, a bridge between, links as slow as asked."""
import os, subprocess

SUBNET = "10.99.0"
# What a link's bucket holds: two of the largest packets that the kernel hands down in one piece.
BURST = 128 << 10
# Bytes that wait before a link; beyond it packets are dropped. More than all sockets of a worker may have under way.
QUEUE = 8 << 20
# A socket's buffers, bytes. The kernel's own would let a tenth of a scaled clock's traffic stand in queues; the large
# machine's links hold a few hundred kilobytes.
SOCKET = "4096 65536 131072"
# Frames of 9000 bytes, and at least four of them handed down at once: a scaled link is so slow that the kernel would
# otherwise cut the stream into small packets, whose handling takes more of this machine's cores than all the rest.
MTU = 9000
SEGMENTS = 4


def call(*arguments):
    done = subprocess.run(list(map(str, arguments)), capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.stderr.strip()}")
    return done.stdout


class Network:
    """Namespaces of `workers` workers; every link carries `bits` a second, each way. For `with`; needs root."""

    def __init__(self, workers, bits):
        self.workers, self.bits = workers, int(bits)
        self.prefix = f"geeps{os.getpid()}"
        self.switch = f"{self.prefix}s"
        self.names = [f"{self.prefix}w{index}" for index in range(workers)]
        self.made = []

    def address(self, index):
        return f"{SUBNET}.{index + 1}"

    def command(self, index, *arguments):
        """`arguments` as worker `index` runs them."""
        return ["ip", "netns", "exec", self.names[index], *map(str, arguments)]

    def __enter__(self):
        try:
            self.add(self.switch)
            call("ip", "-n", self.switch, "link", "add", "br0", "type", "bridge")
            call("ip", "-n", self.switch, "link", "set", "br0", "up")
            for index in range(self.workers):
                self.connect(index)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in reversed(self.made):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def add(self, name):
        call("ip", "netns", "add", name)
        self.made.append(name)
        call("ip", "-n", name, "link", "set", "lo", "up")

    def connect(self, index):
        name, port = self.names[index], f"p{index}"
        self.add(name)
        call("ip", "-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", port, "netns", self.switch)
        call("ip", "-n", name, "addr", "add", f"{self.address(index)}/24", "dev", "eth0")
        for where, device in ((name, "eth0"), (self.switch, port)):
            call("ip", "-n", where, "link", "set", device, "mtu", MTU)
        call("ip", "-n", self.switch, "link", "set", port, "master", "br0")
        call("ip", "-n", self.switch, "link", "set", port, "up")
        call("ip", "-n", name, "link", "set", "eth0", "up")
        # Out of the worker, and out of the switch's port towards it.
        for where, device in ((name, "eth0"), (self.switch, port)):
            call("tc", "-n", where, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{self.bits}bit", "burst",
                 BURST, "limit", QUEUE)
        for key, value in (("tcp_rmem", SOCKET), ("tcp_wmem", SOCKET), ("tcp_min_tso_segs", SEGMENTS),
                           ("tcp_congestion_control", "reno")):
            call("ip", "netns", "exec", name, "sysctl", "-qw", f"net.ipv4.{key}={value}")

    def bytes_sent(self):
        """What all workers have put on their links, headers of all layers included."""
        return sum(int(call(*self.command(index, "cat", "/sys/class/net/eth0/statistics/tx_bytes")))
                   for index in range(self.workers))
