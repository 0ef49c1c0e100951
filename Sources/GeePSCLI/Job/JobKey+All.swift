extension JobKey {
    /// Every key there is, in the order of the manual.
    ///
    /// `geeps config` and docs/job-file.md are printed from it; tests hold it against the parser.
    static let all: [JobKey] = [
        JobKey(
            section: "", name: "model",
            values: "A map",
            fallback: .required, example: "{name: lenet}",
            meaning: "What is trained."),
        JobKey(
            section: "", name: "data",
            values: "A map",
            fallback: .required, example: "{format: mnist, path: digits}",
            meaning: "What it is trained on."),
        JobKey(
            section: "", name: "optimizer",
            values: "A map",
            fallback: .required, example: "{name: sgd, lr: 0.1}",
            meaning: "The update rule; it runs at the keepers."),
        JobKey(
            section: "", name: "train",
            values: "A map",
            fallback: .required, example: "{epochs: 10}",
            meaning: "How long."),
        JobKey(
            section: "", name: "consistency",
            values: "A map",
            fallback: .value("{staleness: 0}"), example: "{staleness: 1}",
            meaning: "How far workers may drift apart."),
        JobKey(
            section: "", name: "cluster",
            values: "A map",
            fallback: .described("one worker on this machine"), example: "{workers: 2}",
            meaning: "How many processes, and how they meet."),
        JobKey(
            section: "", name: "memory",
            values: "A map",
            fallback: .described("everything stays on the device"), example: "{budget: 35%}",
            meaning: "How device memory is managed, for models larger than the device."),
        JobKey(
            section: "", name: "init",
            values:
                "The path of a safetensors file, with the model's tensors and no others, named and shaped as in a PyTorch `state_dict`",
            fallback: .described("PyTorch's default initialisation, from train.seed"),
            example: "start.safetensors",
            meaning: "Weights to start from."),
        JobKey(
            section: "", name: "output",
            values: "A map",
            fallback: .described("nothing is written"), example: "{directory: runs/digits}",
            meaning: "Where results go."),
        JobKey(
            section: "", name: "checkpoint", values: "A map",
            fallback: .described("no checkpoints"), example: "{every: 10m}",
            meaning: "How the run survives lost processes and the end of its time."),
        JobKey(
            section: "", name: "emulate", values: "A map",
            fallback: .described("layers take the time they take"), example: "{clock: 20ms}",
            meaning: "Slower devices than this machine's, for comparison."),

        JobKey(
            section: "model", name: "name",
            values: "lenet",
            fallback: .described("give name or layers"), example: "lenet",
            meaning:
                "A network that has a name; its last layer has as many outputs as the data has classes."
        ),
        JobKey(
            section: "model", name: "layers",
            values: "A list of layers",
            fallback: .described("give name or layers"), example: "[{type: linear, out: 10}]",
            meaning: "The network, first layer first; softmax cross-entropy closes it."),

        JobKey(
            section: "model.layers", name: "type",
            values:
                "One of linear, conv, maxpool, avgpool, relu, tanh, sigmoid, dropout, lrn, batch_norm, flatten, lstm",
            fallback: .required, example: "linear",
            meaning:
                "What the layer computes. linear and lstm flatten their input in the order channel, row, column."
        ),
        JobKey(
            section: "model.layers", name: "name",
            values: "A name of its own in the network",
            fallback: .described("type and position, such as relu1"), example: "fc1",
            meaning:
                "How the layer's weights are called in files: fc1.weight, fc1.bias; those of lstm as PyTorch's LSTM has them, lstm1.weight_ih_l0 and so on."
        ),
        JobKey(
            section: "model.layers", name: "out", variants: ["linear", "conv", "lstm"],
            values: "An integer of 1 or more",
            fallback: .required, example: "64",
            meaning: "Outputs; of conv, output channels; of lstm, hidden values."),
        JobKey(
            section: "model.layers", name: "kernel", variants: ["conv", "maxpool", "avgpool"],
            values: "An integer of 1 or more, pixels",
            fallback: .required, example: "3",
            meaning: "Side of the square window."),
        JobKey(
            section: "model.layers", name: "stride", variants: ["conv"],
            values: "An integer of 1 or more, pixels",
            fallback: .value("1"), example: "2",
            meaning: "Distance between windows."),
        JobKey(
            section: "model.layers", name: "stride", variants: ["maxpool", "avgpool"],
            values: "An integer of 1 or more, pixels",
            fallback: .described("the kernel"), example: "2",
            meaning: "Distance between windows; a last one that is cut is left out."),
        JobKey(
            section: "model.layers", name: "pad", variants: ["conv", "maxpool", "avgpool"],
            values: "An integer of 0 or more, pixels; when pooling at most half the kernel",
            fallback: .value("0"), example: "1",
            meaning: "Zeros (maxpool: nothing) around the input; avgpool counts them."),
        JobKey(
            section: "model.layers", name: "p", variants: ["dropout"],
            values: "A number of at least 0 and below 1",
            fallback: .value("0.5"), example: "0.2",
            meaning: "Share of values that training drops."),
        JobKey(
            section: "model.layers", name: "size", variants: ["lrn"],
            values: "An integer of 1 or more, channels; on a GPU an odd one up to 15",
            fallback: .required, example: "5",
            meaning: "Channels whose squares count: a value's own and as many on either side."),
        JobKey(
            section: "model.layers", name: "alpha", variants: ["lrn"],
            values: "A number of 0 or more",
            fallback: .value("0.0001"), example: "0.001",
            meaning: "Weight of the mean square: x is divided by (k + alpha * mean) ^ beta."),
        JobKey(
            section: "model.layers", name: "beta", variants: ["lrn"],
            values: "A number of 0 or more; on a GPU at least 0.01",
            fallback: .value("0.75"), example: "0.5",
            meaning: "The power."),
        JobKey(
            section: "model.layers", name: "k", variants: ["lrn"],
            values: "A number above 0; on a GPU at least 0.00001",
            fallback: .value("1"), example: "2",
            meaning: "What is added to the mean square."),
        JobKey(
            section: "model.layers", name: "eps", variants: ["batch_norm"],
            values: "A number above 0",
            fallback: .value("0.00001"), example: "0.001",
            meaning: "Added to the variance before its root is taken."),
        JobKey(
            section: "model.layers", name: "momentum", variants: ["batch_norm"],
            values: "A number from 0 to 1",
            fallback: .value("0.1"), example: "0.01",
            meaning:
                "Weight of a batch in the running mean and variance, which evaluation normalises by. They are each worker's own; the model's file has those of rank 0."
        ),
        JobKey(
            section: "model.layers", name: "affine", variants: ["batch_norm"],
            values: "true or false",
            fallback: .value("true"), example: "false",
            meaning: "Whether channels get a scale and a bias that are trained."),
        JobKey(
            section: "model.layers", name: "steps", variants: ["lstm"],
            values: "An integer of 1 or more that divides the input's values",
            fallback: .required, example: "8",
            meaning:
                "Steps that the input is read in, one after the other; a row a step where it is an image of one channel with so many rows."
        ),
        JobKey(
            section: "model.layers", name: "keep", variants: ["lstm"],
            values: "One of last, all",
            fallback: .value("last"), example: "all",
            meaning:
                "Whose hidden values go on: those of the last step, or of all, a step a channel, as another lstm wants them."
        ),

        JobKey(
            section: "data", name: "format",
            values: "One of mnist, cifar10, synthetic",
            fallback: .required, example: "mnist",
            meaning:
                "mnist: four IDX files, gzip or not. cifar10: the binary version. synthetic: made from a seed, with a known answer, without a test half."
        ),
        JobKey(
            section: "data", name: "path", variants: ["mnist", "cifar10"],
            values: "The path of a directory",
            fallback: .required, example: "../data/digits",
            meaning: "Where the files are."),
        JobKey(
            section: "data", name: "samples", variants: ["synthetic"],
            values: "An integer of 1 or more",
            fallback: .required, example: "4096",
            meaning: "Samples to make."),
        JobKey(
            section: "data", name: "features", variants: ["synthetic"],
            values: "An integer of 1 or more",
            fallback: .described("give features or shape"), example: "100",
            meaning: "Values in a sample."),
        JobKey(
            section: "data", name: "shape", variants: ["synthetic"],
            values: "A list of one to three integers of 1 or more",
            fallback: .described("give features or shape"), example: "[3, 32, 32]",
            meaning: "Shape of a sample: [n], [height, width] or [channels, height, width]."),
        JobKey(
            section: "data", name: "classes", variants: ["synthetic"],
            values: "An integer of 2 or more",
            fallback: .required, example: "10",
            meaning: "Classes."),
        JobKey(
            section: "data", name: "seed", variants: ["synthetic"],
            values: "An integer of 0 or more",
            fallback: .value("1"), example: "7",
            meaning: "Another seed makes other data."),
        JobKey(
            section: "data", name: "batch_size",
            values: "An integer of 1 or more, samples",
            fallback: .value("32"), example: "16",
            meaning: "Samples that one worker takes in one clock."),
        JobKey(
            section: "data", name: "shuffle",
            values: "true or false",
            fallback: .value("true"), example: "false",
            meaning: "Whether each epoch has an order of its own, from train.seed."),

        JobKey(
            section: "optimizer", name: "name",
            values: "One of sgd, adam, adamw, adagrad, rmsprop, add",
            fallback: .required, example: "adamw",
            meaning:
                "The rule, with PyTorch's keys, defaults and arithmetic; with add workers make the step and keepers only add (the paper's mode)."
        ),
        JobKey(
            section: "optimizer", name: "lr", variants: ["sgd", "adam", "adamw", "add"],
            values: "A number above 0",
            fallback: .value("0.001"), example: "0.03",
            meaning: "Learning rate, before the schedule."),
        JobKey(
            section: "optimizer", name: "lr", variants: ["adagrad", "rmsprop"],
            values: "A number above 0",
            fallback: .value("0.01"), example: "0.03",
            meaning: "Learning rate, before the schedule."),
        JobKey(
            section: "optimizer", name: "momentum", variants: ["sgd", "rmsprop"],
            values: "A number of 0 or more",
            fallback: .value("0"), example: "0.9",
            meaning: "Share of the last step that is added to this one."),
        JobKey(
            section: "optimizer", name: "dampening", variants: ["sgd"],
            values: "A number",
            fallback: .value("0"), example: "0.1",
            meaning: "What the gradient loses on its way into the momentum."),
        JobKey(
            section: "optimizer", name: "nesterov", variants: ["sgd"],
            values: "true or false; needs a momentum and no dampening",
            fallback: .value("false"), example: "true",
            meaning: "Nesterov's momentum."),
        JobKey(
            section: "optimizer", name: "betas", variants: ["adam", "adamw"],
            values: "A list of two numbers, each at least 0 and below 1",
            fallback: .value("[0.9, 0.999]"), example: "[0.8, 0.99]",
            meaning: "Decay of the first and the second moment."),
        JobKey(
            section: "optimizer", name: "eps", variants: ["adam", "adamw", "rmsprop"],
            values: "A number of 0 or more",
            fallback: .value("1e-8"), example: "1e-6",
            meaning: "Added to the denominator."),
        JobKey(
            section: "optimizer", name: "eps", variants: ["adagrad"],
            values: "A number of 0 or more",
            fallback: .value("1e-10"), example: "1e-6",
            meaning: "Added to the denominator."),
        JobKey(
            section: "optimizer", name: "lr_decay", variants: ["adagrad"],
            values: "A number of 0 or more",
            fallback: .value("0"), example: "1e-4",
            meaning: "The learning rate of clock t is divided by 1 + (t - 1) * lr_decay."),
        JobKey(
            section: "optimizer", name: "initial_accumulator_value", variants: ["adagrad"],
            values: "A number of 0 or more",
            fallback: .value("0"), example: "0.1",
            meaning: "What the sum of squares starts from."),
        JobKey(
            section: "optimizer", name: "alpha", variants: ["rmsprop"],
            values: "A number from 0 to 1",
            fallback: .value("0.99"), example: "0.9",
            meaning: "Decay of the mean square."),
        JobKey(
            section: "optimizer", name: "centered", variants: ["rmsprop"],
            values: "true or false",
            fallback: .value("false"), example: "true",
            meaning: "Whether the mean square loses the square of the mean."),
        JobKey(
            section: "optimizer", name: "weight_decay",
            variants: ["sgd", "adam", "adagrad", "rmsprop"],
            values: "A number of 0 or more",
            fallback: .value("0"), example: "1e-4",
            meaning: "L2 penalty; added once, not once a worker."),
        JobKey(
            section: "optimizer", name: "weight_decay", variants: ["adamw"],
            values: "A number of 0 or more",
            fallback: .value("0.01"), example: "0.1",
            meaning: "Decoupled decay."),
        JobKey(
            section: "optimizer", name: "reduction",
            values: "mean or sum",
            fallback: .value("mean"), example: "sum",
            meaning: "How the workers' gradients become one."),
        JobKey(
            section: "optimizer", name: "schedule",
            values: "A map",
            fallback: .value("{name: constant}"), example: "{name: step, step_size: 100}",
            meaning: "Learning rate by clock."),

        JobKey(
            section: "optimizer.schedule", name: "name",
            values: "One of constant, step, multistep, exponential, polynomial, cosine",
            fallback: .required, example: "cosine",
            meaning: "The shape; keys are those of torch.optim.lr_scheduler, in clocks."),
        JobKey(
            section: "optimizer.schedule", name: "step_size", variants: ["step"],
            values: "An integer of 1 or more, clocks",
            fallback: .required, example: "100",
            meaning: "The rate is multiplied by gamma this often."),
        JobKey(
            section: "optimizer.schedule", name: "milestones", variants: ["multistep"],
            values: "A rising list of integers of 1 or more, clocks",
            fallback: .required, example: "[300, 600]",
            meaning: "The rate is multiplied by gamma at each."),
        JobKey(
            section: "optimizer.schedule", name: "gamma", variants: ["step", "multistep"],
            values: "A number above 0",
            fallback: .value("0.1"), example: "0.5",
            meaning: "Factor."),
        JobKey(
            section: "optimizer.schedule", name: "gamma", variants: ["exponential"],
            values: "A number above 0",
            fallback: .required, example: "0.999",
            meaning: "Factor of every clock."),
        JobKey(
            section: "optimizer.schedule", name: "total_iters", variants: ["polynomial"],
            values: "An integer of 1 or more, clocks",
            fallback: .required, example: "1000",
            meaning: "When the rate reaches zero."),
        JobKey(
            section: "optimizer.schedule", name: "power", variants: ["polynomial"],
            values: "A number above 0",
            fallback: .value("1"), example: "2",
            meaning: "Of the falling line."),
        JobKey(
            section: "optimizer.schedule", name: "T_max", variants: ["cosine"],
            values: "An integer of 1 or more, clocks",
            fallback: .required, example: "1000",
            meaning: "Clocks from the full rate to eta_min."),
        JobKey(
            section: "optimizer.schedule", name: "eta_min", variants: ["cosine"],
            values: "A number of 0 or more",
            fallback: .value("0"), example: "1e-5",
            meaning: "The rate at the end."),
        JobKey(
            section: "optimizer.schedule", name: "warmup",
            values: "An integer of 0 or more, clocks",
            fallback: .value("0"), example: "50",
            meaning:
                "Clocks over which the rate first rises in a straight line; the shape starts after."
        ),

        JobKey(
            section: "train", name: "epochs",
            values: "An integer of 1 or more, epochs",
            fallback: .described("give epochs or steps"), example: "10",
            meaning: "Passes over the training data, shared by all workers."),
        JobKey(
            section: "train", name: "steps",
            values: "An integer of 1 or more, clocks",
            fallback: .described("give epochs or steps"), example: "500",
            meaning: "Clocks of each worker."),
        JobKey(
            section: "train", name: "seed",
            values: "An integer of 0 or more",
            fallback: .value("1"), example: "7",
            meaning: "Seeds initial weights, the order of samples and dropout."),
        JobKey(
            section: "train", name: "batches_per_clock",
            values: "An integer from 1 to 65536, mini-batches",
            fallback: .value("1"), example: "4",
            meaning:
                "Mini-batches of every worker before a clock; their gradients are averaged. A clock sees the samples that one of batches_per_clock x batch_size would."
        ),

        JobKey(
            section: "train", name: "precision",
            values: "float32, tf32 or bf16",
            fallback: .value("float32"), example: "float32",
            meaning:
                "How a GPU multiplies: tf32 and bf16 round the factors to 10 and 7 bits and use its tensor cores. Parameters, activations and sums stay float32. The host knows float32 only."
        ),

        JobKey(
            section: "train", name: "validate_every",
            values: "An integer of 1 or more, clocks",
            fallback: .described("only at the end"), example: "100",
            meaning:
                "How often rank 0 measures the test half of the data with the rows that it has, as old as consistency.staleness allows; metrics.jsonl gets a line each time. The others may go on meanwhile as far as that allows."
        ),

        JobKey(
            section: "consistency", name: "staleness",
            values: "An integer from 0 to 1024, clocks, or async",
            fallback: .value("0"), example: "1",
            meaning:
                "How many clocks a read may lag. 0: BSP, the same bits in every run. async: workers never wait for each other."
        ),

        JobKey(
            section: "consistency", name: "refresh",
            values: "true or false",
            fallback: .value("true"), example: "false",
            meaning:
                "Whether a read under staleness gets the newest rows that have come, or with false those that were prepared up to an iteration before, as the original GeePS did; for comparison."
        ),

        JobKey(
            section: "cluster", name: "workers",
            values: "An integer from 1 to 4096, processes",
            fallback: .described("1; under a launcher, its number of processes"), example: "2",
            meaning: "Processes that train."),
        JobKey(
            section: "cluster", name: "keepers",
            values: "An integer of 1 or more, at most 64 a worker",
            fallback: .described("as many as workers"), example: "1",
            meaning:
                "Shards of every table, dealt to the processes in turn."),
        JobKey(
            section: "cluster", name: "keeper_threads",
            values: "An integer from 1 to 64, threads",
            fallback: .described("1; beside a GPU, half of the worker's cores, at most 8"),
            example: "4",
            meaning:
                "Threads that sum and step the rows of each keeper, a part of the blocks each; any number gives the same bits."
        ),
        JobKey(
            section: "cluster", name: "transport",
            values: "One of auto, tcp, shared-memory, unix-socket, ucx",
            fallback: .value("auto"), example: "tcp",
            meaning: "How rows travel; auto takes the fastest that works between two processes."),
        JobKey(
            section: "cluster", name: "port",
            values: "An integer from 0 to 65535",
            fallback: .value("0"), example: "29500",
            meaning:
                "TCP port where the processes of a run on one machine meet; 0 takes a free one. Under a launcher GEEPS_RENDEZVOUS says it."
        ),
        JobKey(
            section: "cluster", name: "interface",
            values: "auto, or an address of this machine",
            fallback: .value("auto"), example: "0.0.0.0",
            meaning:
                "Where a process accepts rows from others: auto is the address that leads to rank 0, on one machine 127.0.0.1."
        ),
        JobKey(
            section: "cluster", name: "join_timeout",
            values: "A time such as 60s, 500ms, 2m or 1h; a bare number is seconds",
            fallback: .value("60s"), example: "5m",
            meaning: "How long the processes wait for each other at the start."),
        JobKey(
            section: "cluster", name: "reconnect_timeout",
            values: "A time such as 60s, 500ms, 2m or 1h; a bare number is seconds",
            fallback: .value("10s"), example: "30s",
            meaning:
                "How long a lost connection between a worker and a keeper may take to be made anew before the job fails."
        ),
        JobKey(
            section: "cluster", name: "lanes",
            values: "An integer from 1 to 64, connections",
            fallback: .described("1 by shared memory, else 4 divided by the keepers"), example: "2",
            meaning: "Connections between a worker and a keeper."),
        JobKey(
            section: "cluster", name: "tls",
            values: "A map of three files",
            fallback: .described(
                "what GEEPS_TLS_CERTIFICATE, GEEPS_TLS_KEY and GEEPS_TLS_CA name; else none"),
            example: "{certificate: node.pem, key: node-key.pem, ca: ca.pem}",
            meaning:
                "What connections between machines are encrypted with; only who has a certificate of the CA takes part."
        ),

        JobKey(
            section: "cluster.tls", name: "certificate",
            values: "A path", fallback: .required, example: "tls/node.pem",
            meaning: "PEM file with the certificate of this process."),
        JobKey(
            section: "cluster.tls", name: "key",
            values: "A path", fallback: .required, example: "tls/node-key.pem",
            meaning: "PEM file with its private key, without a password."),
        JobKey(
            section: "cluster.tls", name: "ca",
            values: "A path", fallback: .required, example: "tls/ca.pem",
            meaning: "PEM file with the CA that the certificates of all processes come from."),

        JobKey(
            section: "memory", name: "device",
            values: "host, auto, cuda or cuda:N",
            fallback: .value("host"), example: "cuda",
            meaning:
                "Where layers compute and whose memory is managed. cuda: the GPU of this process, by its rank on the machine, among those that CUDA_VISIBLE_DEVICES shows; auto: that if there is one, else the host."
        ),
        JobKey(
            section: "memory", name: "budget",
            values: "Bytes such as 512MiB or 1.5GB, or a share of what keeping everything needs",
            fallback: .described("what keeping everything needs"), example: "35%",
            meaning:
                "Device memory of each worker for everything: what does not fit waits in host memory. geeps plan says what a budget costs."
        ),
        JobKey(
            section: "memory", name: "policy",
            values: "benefit or paper",
            fallback: .value("benefit"), example: "paper",
            meaning: "How to choose what stays; paper is GeePS's Algorithm 2, to compare with."),
        JobKey(
            section: "memory", name: "parameter_cache",
            values: "device or host",
            fallback: .value("device"), example: "host",
            meaning:
                "Where a worker keeps its copy of the parameters. host: a CPU-side parameter server, whose workers copy by themselves before and after each layer, to compare with."
        ),
        JobKey(
            section: "memory", name: "background",
            values: "true or false",
            fallback: .described("false with parameter_cache: host, else true"), example: "true",
            meaning:
                "Copies and clocks of tables run beside the computation. false, with parameter_cache: host alone: the worker copies by itself, and sends at the end of an iteration."
        ),
        JobKey(
            section: "memory", name: "pinned_host",
            values: "true or false",
            fallback: .value("true"), example: "false",
            meaning: "Copies use pinned host memory; pageable memory is slower on a GPU."),
        JobKey(
            section: "memory", name: "pinned_limit",
            values: "Bytes such as 4GiB",
            fallback: .described("no limit"), example: "4GiB",
            meaning:
                "Most pinned host memory of each worker; when it is used up, pageable memory takes its place, with one warning."
        ),
        JobKey(
            section: "memory", name: "link",
            values: "A speed such as 12GB/s or 500MB/s",
            fallback: .described("as fast as memory"), example: "12GB/s",
            meaning:
                "Speed between host and device, each way: the planner predicts with it, and the host device slows copies down to it."
        ),

        JobKey(
            section: "output", name: "directory",
            values: "The path of a directory; it is made",
            fallback: .required, example: "runs/digits",
            meaning: "Receives metrics.jsonl as training goes on and model.safetensors at its end."),

        JobKey(
            section: "checkpoint", name: "directory",
            values: "The path of a directory that every process reaches; it is made",
            fallback: .described("checkpoints in output.directory"), example: "runs/digits/ck",
            meaning: "Receives a directory for each checkpoint, step-N."),
        JobKey(
            section: "checkpoint", name: "every",
            values: "An integer of 1 or more, clocks; or a time such as 30s, 10m or 1h",
            fallback: .value("600s"), example: "500",
            meaning:
                "How often a checkpoint is made, while training goes on. One that is due while the one before is still being written waits for it."
        ),
        JobKey(
            section: "checkpoint", name: "keep",
            values: "An integer from 1 to 1000000, checkpoints",
            fallback: .value("3"), example: "5",
            meaning: "The newest that are left; older ones are removed."),
        JobKey(
            section: "checkpoint", name: "resume",
            values: "auto, never or the path of a checkpoint",
            fallback: .value("auto"), example: "never",
            meaning:
                "What a run starts from. auto: the newest whole checkpoint, if there is one. never: the beginning; a directory that has checkpoints is refused."
        ),
        JobKey(
            section: "checkpoint", name: "restarts",
            values: "An integer from 0 to 1000000",
            fallback: .value("3"), example: "0",
            meaning:
                "How often a run of several processes on one machine is started again from its newest checkpoint when a process is lost."
        ),

        JobKey(
            section: "emulate", name: "clock",
            values: "A time such as 20ms or 1s",
            fallback: .required, example: "20ms",
            meaning:
                "Least time of a clock's layers on each worker, spread evenly over the layers; a worker sleeps for what is left."
        ),
        JobKey(
            section: "emulate", name: "delay",
            values: "A time such as 20ms or 1s",
            fallback: .described("none"), example: "60ms",
            meaning: "How much longer the clocks of a delayed worker take."),
        JobKey(
            section: "emulate", name: "delayed",
            values: "turns, or a rank",
            fallback: .value("turns"), example: "0",
            meaning:
                "Who is delayed: one worker in all its clocks, or in each clock another one, in turn."
        ),
    ]
}
