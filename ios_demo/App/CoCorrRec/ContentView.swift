import Recommending
import SwiftUI

/// Shows the ten best films; every text is finished when it gets here. A tap on a film is a click.
struct ContentView: View {
    let session: Session
    @SceneStorage("clicks") private var clicks = "260 1196 2571"
    @SceneStorage("server") private var server = "http://127.0.0.1:8080"
    @SceneStorage("cloud") private var isCloudOn = false

    var body: some View {
        NavigationStack {
            List {
                Section("Your last clicks") { Text(session.screen?.clicks ?? "").lineLimit(2) }
                Section {
                    Toggle("Cloud", isOn: $isCloudOn)
                    TextField("Server", text: $server).keyboardType(.URL).textInputAutocapitalization(.never).autocorrectionDisabled()
                }
                Section {
                    ForEach(session.screen?.lines ?? []) { line in
                        Button { Task { await session.click(line.key) } } label: { LabeledContent(line.title, value: line.score) }
                            .foregroundStyle(.primary)
                    }
                } header: {
                    Text(session.failure ?? session.screen?.status ?? "Loading the model…").font(.headline)
                } footer: {
                    Text([session.screen?.latency, session.screen?.counts].compactMap(\.self).joined(separator: "\n"))
                }
            }
            .navigationTitle("CoCorrRec")
        }
        .task { await session.start(clicks: clicks.split(separator: " ").map(String.init), server: address) }
        .onChange(of: isCloudOn) { Task { await session.useCloud(address) } }
        .onChange(of: session.screen?.history) { _, history in clicks = (history ?? []).joined(separator: " ") }
    }

    private var address: URL? { isCloudOn ? URL(string: server) : nil }
}
