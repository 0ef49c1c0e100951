import GeePSNN
struct LayerTimes { func nanoseconds(for network: Network) -> [UInt64] { [] } }
