"""Training steps of the 1024-2048-2048-10 perceptron in PyTorch: one plain process, or DDP over gloo.

Usage: ddp_step.py BATCH WORKERS STEPS. One thread a process, SGD with momentum. Prints milliseconds as JSON.
"""
import json, os, socket, statistics, sys, time
import torch, torch.distributed as dist, torch.multiprocessing as mp


def model():
    torch.manual_seed(1)
    nn = torch.nn
    return nn.Sequential(
        nn.Linear(1024, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10))


def steps(net, batch, count):
    # The fused optimiser is PyTorch's fastest on a CPU.
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, fused=True)
    x, y = torch.randn(batch, 1024), torch.randint(0, 10, (batch,))
    times = []
    for step in range(count + 5):
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
        if step >= 5:
            times.append((time.perf_counter() - start) * 1e3)
    return {"median_ms": statistics.median(times), "min_ms": min(times)}


def worker(rank, world, batch, count, port, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    result = steps(torch.nn.parallel.DistributedDataParallel(model()), batch, count)
    if rank == 0:
        out.put(result)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    batch, workers, count = map(int, sys.argv[1:4])
    if workers == 1:
        torch.set_num_threads(1)
        print(json.dumps(steps(model(), batch, count)))
    else:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        context = mp.get_context("spawn")
        out = context.SimpleQueue()
        processes = [
            context.Process(target=worker, args=(r, workers, batch, count, port, out))
            for r in range(workers)
        ]
        for p in processes:
            p.start()
        print(json.dumps(out.get()))
        for p in processes:
            p.join()
