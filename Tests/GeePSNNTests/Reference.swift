import Glibc

func tanhReference(_ x: Float) -> Double { tanh(Double(x)) }
func expReference(_ x: Float) -> Double { exp(Double(x)) }
func logReference(_ x: Double) -> Double { log(x) }
