/// The first byte that a file of ours does not have there; nil where there is none.
///
/// The reader knows all of YAML, aliases and tags too; a file of ours is plain JSON, and not deep.
func strangeByte(inJSON text: String, schema: String) -> (line: Int, message: String)? {
    var (line, depth, isInText, isEscaped) = (1, 0, false, false)
    for scalar in text.unicodeScalars {
        if scalar == "\n" { line += 1 }
        if isInText {
            if scalar == "\"", !isEscaped { isInText = false }
            isEscaped = scalar == "\\" && !isEscaped
            continue
        }
        switch scalar {
        case "\"": isInText = true
        case "{", "[": depth += 1
        case "}", "]": depth -= 1
        case _ where ",: \n\r\t+-.eE0123456789".unicodeScalars.contains(scalar): break
        case _ where "truefalsn".unicodeScalars.contains(scalar): break
        default:
            let found = jsonString(String(scalar))
            return (line, "found \(found), expected a JSON object of schema \(schema)")
        }
        guard 0...4 ~= depth else {
            return (line, "found brackets \(depth) deep, expected an object of \(schema)")
        }
    }
    guard depth == 0, !isInText else {
        return (line, "the file ends in the middle of an object, expected all of it")
    }
    return nil
}
