"""One process: the bits of torch.optim."""

from __future__ import annotations

import models
import pytest
import torch

import geeps


@pytest.mark.parametrize("optimizer", models.OPTIMIZERS)
@pytest.mark.parametrize("name", models.MODELS)
def test_twenty_steps_have_the_bits_of_torch(name: str, optimizer: str) -> None:
    theirs, plain = models.plain(name, optimizer)
    expected = models.train(theirs, plain, name)
    ours = models.build(name)
    with geeps.attach(ours, models.OPTIMIZERS[optimizer](ours.parameters())) as attached:
        assert models.train(ours, attached, name) == expected
        models.assert_same(ours, theirs)
    assert expected[-1] < expected[0]


@pytest.mark.parametrize("optimizer", ["momentum", "adamw", "rmsprop"])
def test_schedules_change_the_learning_rate_of_the_next_step(optimizer: str) -> None:
    theirs, plain = models.plain("cnn", optimizer)
    ours = models.build("cnn")
    attached = geeps.attach(ours, models.OPTIMIZERS[optimizer](ours.parameters()))
    schedules = [torch.optim.lr_scheduler.StepLR(o, 2, 0.5) for o in (plain, attached)]
    for _ in range(3):
        models.train(theirs, plain, "cnn", steps=2)
        models.train(ours, attached, "cnn", steps=2)
        for schedule in schedules:
            schedule.step()
    models.assert_same(ours, theirs)


def test_a_schedule_may_turn_momentum_too() -> None:
    theirs, plain = models.plain("cnn", "momentum")
    ours = models.build("cnn")
    attached = geeps.attach(ours, models.OPTIMIZERS["momentum"](ours.parameters()))
    schedules = [torch.optim.lr_scheduler.OneCycleLR(o, 0.2, total_steps=20) for o in (plain, attached)]
    for _ in range(6):
        models.train(theirs, plain, "cnn", steps=1)
        models.train(ours, attached, "cnn", steps=1)
        for schedule in schedules:
            schedule.step()
    models.assert_same(ours, theirs)


def test_groups_have_rules_of_their_own() -> None:
    def groups(model: torch.nn.Module) -> list[dict[str, object]]:
        matrices = [p for p in model.parameters() if p.ndim > 1]
        others = [p for p in model.parameters() if p.ndim <= 1]
        return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0, "lr": 0.02}]

    theirs, ours = models.build("lm"), models.build("lm")
    plain = models.with_correct_roots(torch.optim.AdamW(groups(theirs), lr=0.01, foreach=False))
    models.train(theirs, plain, "lm")
    attached = geeps.attach(ours, torch.optim.AdamW(groups(ours), lr=0.01))
    models.train(ours, attached, "lm")
    models.assert_same(ours, theirs)


@pytest.mark.parametrize("optimizer", models.OPTIMIZERS)
def test_state_goes_to_torch_and_comes_back(optimizer: str) -> None:
    theirs, plain = models.plain("cnn", optimizer)
    ours = models.build("cnn")
    attached = geeps.attach(ours, models.OPTIMIZERS[optimizer](ours.parameters()))
    models.train(theirs, plain, "cnn", steps=3)
    models.train(ours, attached, "cnn", steps=3)
    expected, found = plain.state_dict(), attached.state_dict()
    assert found["state"].keys() == expected["state"].keys()
    for index, state in expected["state"].items():
        for name, value in state.items():
            if value is not None:
                assert torch.equal(found["state"][index][name], value), (index, name)
    attached.close()

    # From torch to GeePS: another process goes on where torch was.
    resumed = models.build("cnn", seed=2)
    again = geeps.attach(resumed, models.OPTIMIZERS[optimizer](resumed.parameters()))
    resumed.load_state_dict(theirs.state_dict())
    again.load_state_dict(expected)
    models.train(theirs, plain, "cnn", steps=3)
    models.train(resumed, again, "cnn", steps=3)
    models.assert_same(resumed, theirs)


def test_an_optimizer_may_have_stepped_before_it_is_attached() -> None:
    theirs, plain = models.plain("cnn", "adam")
    ours, inner = models.plain("cnn", "adam")
    models.train(theirs, plain, "cnn", steps=5)
    models.train(ours, inner, "cnn", steps=2)
    attached = geeps.attach(ours, inner)
    for step in range(2, 5):
        x, y = models.batch("cnn", step)
        torch.manual_seed(7000 + step)
        attached.zero_grad()
        models.loss_of(ours, x, y).backward()
        attached.step()
    models.assert_same(ours, theirs)


def test_channels_last_keeps_its_strides() -> None:
    theirs, plain = models.plain("cnn", "adam")
    ours = models.build("cnn").to(memory_format=torch.channels_last)
    theirs.to(memory_format=torch.channels_last)
    strides = [p.stride() for p in ours.parameters()]
    attached = geeps.attach(ours, models.OPTIMIZERS["adam"](ours.parameters()))
    models.train(theirs, plain, "cnn")
    models.train(ours, attached, "cnn")
    assert [p.stride() for p in ours.parameters()] == strides
    models.assert_same(ours, theirs)
