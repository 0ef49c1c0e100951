"""A small GPT that learns to write licences, within a memory budget, with GeePS; gpt.py is the same in plain PyTorch.

$ python Examples/torch/gpt_geeps.py
"""

import pathlib

import geeps
import torch
from torch import nn

TEXTS = [pathlib.Path(__file__).parents[2] / "LICENSE", *sorted(pathlib.Path("/usr/share/common-licenses").glob("*"))]
LENGTH, WIDTH, LAYERS = 64, 128, 4


class GPT(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(128, WIDTH)
        self.position = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        h = self.token(x) + self.position(torch.arange(x.shape[1]))
        for block in self.blocks:
            h = block(h, src_mask=mask, is_causal=True)
        return nn.functional.linear(self.norm(h), self.token.weight)  # tied


def main() -> None:
    torch.manual_seed(1)
    text = "".join(path.read_text(errors="ignore") for path in TEXTS if path.is_file())
    data = torch.tensor([min(ord(c), 127) for c in text])
    model = GPT()
    for embedding in (model.token, model.position):
        nn.init.normal_(embedding.weight, std=0.05)
    opt = geeps.attach(model, torch.optim.AdamW(model.parameters(), lr=1e-3), memory="managed", budget=1 << 20)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=3e-3, total_steps=100, cycle_momentum=False)
    for step in range(100):
        starts = torch.randint(0, len(data) - LENGTH - 1, (8,))
        rows = torch.stack([data[start : start + LENGTH + 1] for start in starts])
        opt.zero_grad()
        logits = model(rows[:, :-1])
        loss = nn.functional.cross_entropy(logits.reshape(-1, 128), rows[:, 1:].reshape(-1))
        loss.backward()
        opt.step()
        schedule.step()
        if step % 25 == 24:
            print(f"step {step + 1}: loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
