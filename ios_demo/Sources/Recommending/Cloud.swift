/// What a server takes and gives; the shapes are those of one user.
public struct CloudContract: Sendable, Equatable {
    public let input: TensorSpec
    public let outputs: [TensorSpec]

    public init(input: TensorSpec, outputs: [TensorSpec]) { (self.input, self.outputs) = (input, outputs) }

    /// Refuses a server of another kind than the phone's model, by the names of what the two take and give.
    func check(_ phone: Contract) throws {
        let encoded = phone.has("encode") ? try phone.entryPoint("encode").outputs.first : nil
        let uploads = encoded.map { input == $0 } ?? (input.name == "ids" && input.type == .int32)
        guard uploads, Set(outputs) == Set(phone.correction) else {
            throw InvalidInput(
                "the phone's model sends \(encoded?.name ?? "ids") and takes \(names(phone.correction)), "
                    + "the server takes \(input.name) and answers \(names(outputs))")
        }
    }

    private func names(_ specs: [TensorSpec]) -> String { specs.map(\.name).joined(separator: ", ") }
}

/// The cloud model, wherever it is.
public protocol Cloud: Sendable {
    /// What it takes and gives. Asked before the first upload, which also opens the connection.
    func contract() async throws -> CloudContract

    /// Its answer for one user, in the order of `CloudContract.outputs`.
    func correct(_ input: Tensor) async throws -> [[Float]]
}
