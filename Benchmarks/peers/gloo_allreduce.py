"""torch gloo's all-reduce of one float32 tensor between two processes; prints milliseconds as JSON.

Usage: gloo_allreduce.py BYTES ROUNDS. Where RANK and MASTER_ADDR are set it is one of the processes, and rank 0 prints;
else it starts both on this machine.
"""
import json, os, socket, statistics, sys, time
import torch, torch.distributed as dist, torch.multiprocessing as mp


def measure(rank, world, count, rounds):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    tensor = torch.full((count,), 1e-3)
    times = []
    for round_ in range(rounds + 3):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(tensor)
        if round_ >= 3:
            times.append((time.perf_counter() - start) * 1e3)
        tensor.fill_(1e-3)
    dist.barrier()
    dist.destroy_process_group()
    return {"median_ms": statistics.median(times), "min_ms": min(times)}


def worker(rank, world, count, rounds, port, out):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    result = measure(rank, world, count, rounds)
    if rank == 0:
        out.put(result)


def start_both(count, rounds):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    context = mp.get_context("spawn")
    out = context.SimpleQueue()
    processes = [context.Process(target=worker, args=(r, 2, count, rounds, port, out)) for r in range(2)]
    for p in processes:
        p.start()
    print(json.dumps(out.get()))
    for p in processes:
        p.join()


if __name__ == "__main__":
    count, rounds = int(sys.argv[1]) // 4, int(sys.argv[2])
    if "RANK" in os.environ:
        result = measure(int(os.environ["RANK"]), 2, count, rounds)
        if os.environ["RANK"] == "0":
            print(json.dumps(result))
    else:
        start_both(count, rounds)
