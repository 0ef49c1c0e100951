/// What a cluster would do with a workload, by grouping of its layers.
struct ForecastReport {
    /// A grouping with its forecast.
    struct Choice {
        /// nil: one table of all.
        var layersPerTable: Int?
        var forecast: ClusterForecast
    }

    let workload: Workload
    let setting: ClusterSetting
    let choices: [Choice]

    init(_ workload: Workload, _ setting: ClusterSetting) {
        self.workload = workload
        self.setting = setting
        choices = ClusterForecast.candidates(layers: workload.parameters.count).map {
            Choice(
                layersPerTable: $0,
                forecast: ClusterForecast(workload, layersPerTable: $0, setting))
        }
    }

    init(_ workload: Workload, _ options: ReplayOptions) throws {
        guard let setting = options.setting else {
            throw CLIError(.usage, "a forecast needs --network")
        }
        self.init(workload, setting)
    }

    /// The fastest; of those within a thousandth the one with the fewest tables, for each costs messages.
    var best: Choice {
        let least = choices.map(\.forecast.clockNanoseconds).min() ?? 0
        return choices.last { $0.forecast.clockNanoseconds <= least * 1.001 } ?? choices[0]
    }

    /// Samples that all workers train on a second.
    func samplesPerSecond(_ forecast: ClusterForecast) -> Double {
        Double(workload.samplesPerClock * setting.workers) / (forecast.clockNanoseconds / 1e9)
    }

    /// A table for people.
    var text: String {
        let network = Text.fixed(setting.networkBytesPerSecond * 8 / 1e9, 1)
        let link = setting.linkBytesPerSecond.map { "\(Text.bytes(UInt64($0)))/s" } ?? "no limit"
        var rows = [["layers a table", "clock", "samples/s", "stall", "of ideal"]]
        for choice in choices {
            let forecast = choice.forecast
            rows.append([
                choice.layersPerTable.map { "\($0)" } ?? "all",
                Text.duration(UInt64(forecast.clockNanoseconds)),
                Text.rate(samplesPerSecond(forecast)), Text.percent(forecast.stall),
                choice.layersPerTable == best.layersPerTable
                    ? Text.percent(1 - forecast.stall) + "  <- best"
                    : Text.percent(1 - forecast.stall),
            ])
        }
        let size = Text.bytes(UInt64(workload.parameterBytes))
        let lines = [
            "\(workload.name): \(size) of parameters, \(workload.samplesPerClock) samples a worker and clock, "
                + "\(Text.duration(workload.computeNanoseconds)) of compute",
            "\(setting.workers) workers, network \(network) Gb/s, host-device link \(link), predicted:",
            "",
        ]
        return (lines + Columns.lines(rows, right: [0, 1, 2, 3])).joined(separator: "\n") + "\n"
    }

    /// The object that `--json` prints: `geeps.forecast/1`.
    var json: JSONValue {
        func number(_ layers: Int?) -> JSONValue {
            layers.map { .integer(Int64($0)) } ?? .string("all")
        }
        return .object([
            "schema": .string("geeps.forecast/1"), "workload": .string(workload.name),
            "workers": .integer(Int64(setting.workers)),
            "network_bytes_per_second": .number(setting.networkBytesPerSecond),
            "link_bytes_per_second": setting.linkBytesPerSecond.map(JSONValue.number) ?? .null,
            "best_layers_per_table": number(best.layersPerTable),
            "choices": .array(
                choices.map {
                    .object([
                        "layers_per_table": number($0.layersPerTable),
                        "clock_nanoseconds": .number($0.forecast.clockNanoseconds),
                        "stall": .number($0.forecast.stall),
                        "samples_per_second": .number(samplesPerSecond($0.forecast)),
                    ])
                }),
        ])
    }
}
