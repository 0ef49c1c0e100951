@main
enum Geeps {
    static func main() {}
}
