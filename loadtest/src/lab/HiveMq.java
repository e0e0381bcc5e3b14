// Starts HiveMQ CE in the folder given, with anybody let in: without an extension that says so it refuses everybody.

import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.file.Path;

public final class HiveMq {
    public static void main(String[] arguments) throws Exception {
        var home = Path.of(arguments[0]);
        var allowAll = EmbeddedExtension.builder()
            .withId("allow-all").withName("Lets everybody in").withVersion("1").withAuthor("Sluice")
            .withPriority(0).withStartPriority(1000).withExtensionMain(new AllowAll()).build();
        EmbeddedHiveMQ.builder()
            .withConfigurationFolder(home.resolve("conf"))
            .withDataFolder(home.resolve("data"))
            .withExtensionsFolder(home.resolve("extensions"))
            .withEmbeddedExtension(allowAll)
            .build().start().join();
        System.out.println("HiveMQ takes connections");
        Thread.currentThread().join();
    }

    static final class AllowAll implements ExtensionMain {
        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            SimpleAuthenticator everybody = (in, out) -> out.authenticateSuccessfully();
            Services.securityRegistry().setAuthenticatorProvider(in -> everybody);
        }

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    }
}
