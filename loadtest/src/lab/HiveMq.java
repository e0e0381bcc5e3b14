// Starts HiveMQ CE in the folder given, with anybody let in: without an extension that says so it refuses everybody.
// With a second argument, "mended", the extension also keeps a kill -9 from costing a reading: see goPastLostPayloads.

import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.packets.general.Qos;
import com.hivemq.extension.sdk.api.services.Services;
import com.hivemq.extension.sdk.api.services.builder.Builders;
import java.nio.ByteBuffer;
import java.nio.file.Path;

public final class HiveMq {
    public static void main(String[] arguments) throws Exception {
        var home = Path.of(arguments[0]);
        var everything = EmbeddedExtension.builder()
            .withId("lab").withName("Lets everybody in, and goes past lost payloads").withVersion("1").withAuthor("Sluice")
            .withPriority(0).withStartPriority(1000).withExtensionMain(new Lab(arguments.length > 1 && arguments[1].equals("mended"))).build();
        EmbeddedHiveMQ.builder()
            .withConfigurationFolder(home.resolve("conf"))
            .withDataFolder(home.resolve("data"))
            .withExtensionsFolder(home.resolve("extensions"))
            .withEmbeddedExtension(everything)
            .build().start().join();
        System.out.println("HiveMQ takes connections");
        Thread.currentThread().join();
    }

    static final class Lab implements ExtensionMain {
        private final boolean isMended;

        Lab(boolean isMended) {
            this.isMended = isMended;
        }

        @Override
        public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
            SimpleAuthenticator everybody = (in, out) -> out.authenticateSuccessfully();
            Services.securityRegistry().setAuthenticatorProvider(in -> everybody);
            if (isMended) {
                goPastLostPayloads();
            }
        }

        // HiveMQ writes a queue's entry before the payload that it names by a number. A kill between the two leaves an entry
        // whose payload is not there; after the restart the next publication gets that number, its payload is taken for one
        // that is stored, and both are dropped, the second one acknowledged. Publications that nobody subscribes to use such
        // numbers up before the first device connects. An operator can do the same with an extension of these lines.
        private static void goPastLostPayloads() {
            var nothing = Builders.publish().topic("nobody/reads/this").qos(Qos.AT_MOST_ONCE).payload(ByteBuffer.allocate(1)).build();
            for (int number = 0; number < NUMBERS; number++) {
                Services.publishService().publish(nothing);
            }
        }

        // Far more than the entries that its writers, one a bucket of the queues' store, can have under way at once.
        private static final int NUMBERS = 1_000;

        @Override
        public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    }
}
