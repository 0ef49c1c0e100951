"""torch's fused optimisers over 16 M parameters, one thread; prints million parameters a second as JSON."""
import json, time
import torch

torch.set_num_threads(1)
COUNT = 16 << 20
result = {}
for name, make in [
    ("sgd", lambda p: torch.optim.SGD([p], lr=1e-3, momentum=0.9, fused=True)),
    ("adamw", lambda p: torch.optim.AdamW([p], lr=1e-3, weight_decay=0.01, fused=True)),
]:
    parameter = torch.zeros(COUNT, requires_grad=True)
    parameter.grad = torch.randn(COUNT)
    optimizer = make(parameter)
    times = []
    for _ in range(15):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    result[name] = COUNT / sorted(times)[len(times) // 2] / 1e6
print(json.dumps(result))
