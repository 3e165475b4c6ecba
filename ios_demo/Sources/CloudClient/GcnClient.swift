import Foundation
import Recommending

#if canImport(FoundationNetworking)
import FoundationNetworking
#endif

/// The server answered with an error.
public struct Refused: Error, CustomStringConvertible, Equatable {
    public let status: Int
    public let message: String

    public var description: String { "the server answered \(status): \(message)" }
}

/// Asks a `cocorr-serve gcn`, or any server of the Open Inference Protocol, for corrections. The session keeps the
/// connection open between calls. Nothing is sent twice: an answer that fails costs the correction alone.
public final class GcnClient: Cloud {
    private static let maxBytes = 1 << 20
    private let root: URL
    private let token: String?
    private let limit: TimeInterval
    private let session: URLSession
    private let known = Locked<CloudContract?>(nil)

    /// - Parameters:
    ///   - address: `https://host:port`, with a path if the server has one.
    ///   - version: `Contract.version`: a server with other weights refuses with 404.
    ///   - token: bearer token.
    ///   - limit: seconds of a whole call, connecting and reading included.
    public init(address: URL, version: String, model: String = "gcn", token: String? = nil, limit: TimeInterval = 5) {
        root = address.appendingPathComponent("v2/models/\(model)/versions/\(version)")
        (self.token, self.limit) = (token, limit)
        let settings = URLSessionConfiguration.ephemeral
        settings.timeoutIntervalForRequest = limit
        settings.timeoutIntervalForResource = limit
        session = URLSession(configuration: settings)
    }

    deinit { session.finishTasksAndInvalidate() }

    public func contract() async throws -> CloudContract {
        if let known = known.with({ $0 }) { return known }
        let contract = try OpenInference.contract(try await call(URLRequest(url: root)).body)
        known.with { $0 = contract }
        return contract
    }

    public func correct(_ input: Tensor) async throws -> [[Float]] {
        let contract = try await contract()
        let (body, jsonBytes) = try OpenInference.request(contract.input, input)
        var request = URLRequest(url: root.appendingPathComponent("infer"))
        request.httpMethod = "POST"
        request.httpBody = body
        request.setValue("application/octet-stream", forHTTPHeaderField: "Content-Type")
        request.setValue(String(jsonBytes), forHTTPHeaderField: OpenInference.jsonBytes)
        let answer = try await call(request)
        let length = answer.response.value(forHTTPHeaderField: OpenInference.jsonBytes).flatMap(Int.init) ?? 0
        return try OpenInference.answer(answer.body, jsonBytes: length, outputs: contract.outputs)
    }

    private func call(_ request: URLRequest) async throws -> (body: Data, response: HTTPURLResponse) {
        var request = request
        if let token { request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization") }
        let (body, response) = try await data(for: request)
        guard let response = response as? HTTPURLResponse else { throw OpenInference.Malformed(description: "no HTTP") }
        guard response.statusCode == 200 else { throw Refused(status: response.statusCode, message: Self.message(body)) }
        let declared = response.expectedContentLength
        guard body.count <= Self.maxBytes, declared < 0 || Int(declared) == body.count else {
            throw OpenInference.Malformed(description: "an answer of \(body.count) bytes, not of \(declared)")
        }
        return (body, response)
    }

    /// The session's own limits are of silence on some systems: a server that sends a byte now and then would hold the call.
    private func data(for request: URLRequest) async throws -> (Data, URLResponse?) {
        try await withCheckedThrowingContinuation { continuation in
            let started = Locked<Task<Void, any Error>?>(nil)
            let task = session.dataTask(with: request) { data, response, error in
                started.with { $0?.cancel() }
                if let error { return continuation.resume(throwing: error) }
                continuation.resume(returning: (data ?? Data(), response))
            }
            started.with { clock in
                clock = Task { [limit] in
                    try await Task.sleep(for: .seconds(limit))
                    task.cancel()
                }
            }
            task.resume()
        }
    }

    private static func message(_ body: Data) -> String {
        struct Failure: Decodable { let error: String }
        return (try? JSONDecoder().decode(Failure.self, from: body).error) ?? String(decoding: body.prefix(200), as: UTF8.self)
    }
}
