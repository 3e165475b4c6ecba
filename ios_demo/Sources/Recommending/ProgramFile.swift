import Foundation

#if canImport(CryptoKit)
import CryptoKit

/// The program in the app's bundle, checked by size and SHA-256: a native runtime may crash on a damaged file.
public enum ProgramFile {
    public static func check(_ program: URL, manifest: Data) throws {
        let manifest = try JSONDecoder().decode(Manifest.self, from: manifest)
        guard let entry = manifest.files.first(where: { $0.path == program.lastPathComponent }) else {
            throw InvalidInput("the manifest does not name \(program.lastPathComponent)")
        }
        let bytes = try Data(contentsOf: program, options: .mappedIfSafe)
        let digest = SHA256.hash(data: bytes).map { String(format: "%02x", $0) }.joined()
        guard bytes.count == entry.bytes, digest == entry.sha256 else {
            throw InvalidInput("\(program.lastPathComponent) is not the one that the manifest was written for")
        }
    }
}
#endif
