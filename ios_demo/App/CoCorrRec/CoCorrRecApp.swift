import SwiftUI

@main
struct CoCorrRecApp: App {
    @State private var session = Session()

    var body: some Scene {
        WindowGroup { ContentView(session: session) }
    }
}
