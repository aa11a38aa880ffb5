// com.pusher:pusher-java-client, driven by a test: commands on standard input, events on standard output, one JSON object
// per line (tests/lib/client-driver.js).

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.pusher.client.Pusher;
import com.pusher.client.PusherOptions;
import com.pusher.client.channel.PresenceChannelEventListener;
import com.pusher.client.channel.PrivateChannel;
import com.pusher.client.channel.PrivateEncryptedChannelEventListener;
import com.pusher.client.channel.PusherEvent;
import com.pusher.client.channel.User;
import com.pusher.client.connection.ConnectionEventListener;
import com.pusher.client.connection.ConnectionState;
import com.pusher.client.connection.ConnectionStateChange;
import com.pusher.client.util.HttpChannelAuthorizer;
import com.pusher.client.util.HttpUserAuthenticator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.Set;

public class ClientDriver {
    static final Gson GSON = new Gson();
    static final String[] EVENTS = {"my-event", "client-event", "pusher:cache_miss", "pusher:subscription_error"};
    static Pusher pusher;

    static synchronized void tell(String event, String... members) {
        JsonObject line = new JsonObject();
        line.addProperty("event", event);
        for (int i = 0; i < members.length; i += 2) line.addProperty(members[i], members[i + 1]);
        System.out.println(GSON.toJson(line));
        System.out.flush();
    }

    static class Listener implements PresenceChannelEventListener, PrivateEncryptedChannelEventListener {
        public void onSubscriptionSucceeded(String channel) {
            if (!channel.startsWith("presence-")) tell("subscribed", "channel", channel);
        }

        public void onAuthenticationFailure(String message, Exception cause) {
            tell("refused", "text", message);
        }

        public void onEvent(PusherEvent event) {
            if (event.getEventName().equals("pusher:cache_miss")) {
                tell("cache_miss", "channel", event.getChannelName());
                return;
            }
            if (event.getEventName().equals("pusher:subscription_error")) {
                tell("refused", "text", event.getData());
                return;
            }
            String user = event.getUserId() == null ? "" : event.getUserId();
            tell("message", "channel", event.getChannelName(), "name", event.getEventName(), "data", event.getData(),
                "user", user);
        }

        public void onError(String message, Exception cause) {
            tell("refused", "text", message);
        }

        public void onUsersInformationReceived(String channel, Set<User> users) {
            JsonObject line = new JsonObject();
            line.addProperty("event", "subscribed");
            line.addProperty("channel", channel);
            line.add("members", GSON.toJsonTree(users.stream().map(User::getId).sorted().toArray()));
            synchronized (ClientDriver.class) {
                System.out.println(GSON.toJson(line));
                System.out.flush();
            }
        }

        public void userSubscribed(String channel, User user) {
            tell("added", "channel", channel, "id", user.getId());
        }

        public void userUnsubscribed(String channel, User user) {
            tell("removed", "channel", channel, "id", user.getId());
        }

        public void onDecryptionFailure(String event, String reason) {
            tell("undecryptable", "name", event, "text", reason);
        }
    }

    static void connect(JsonObject command) {
        String auth = command.get("auth").getAsString();
        PusherOptions options = new PusherOptions()
            .setHost(command.get("host").getAsString())
            .setWsPort(command.get("port").getAsInt())
            .setUseTLS(false)
            .setMaxReconnectGapInSeconds(1)
            .setChannelAuthorizer(new HttpChannelAuthorizer(auth + "/channel"))
            .setUserAuthenticator(new HttpUserAuthenticator(auth + "/user"));
        pusher = new Pusher(command.get("key").getAsString(), options);
        pusher.user().bind("my-event", event -> tell("user_message", "name", event.getEventName(), "data",
            event.getData()));
        pusher.connect(new ConnectionEventListener() {
            public void onConnectionStateChange(ConnectionStateChange change) {
                if (change.getCurrentState() == ConnectionState.CONNECTED)
                    tell("connected", "socket_id", pusher.getConnection().getSocketId());
                if (change.getCurrentState() == ConnectionState.DISCONNECTED) tell("disconnected");
            }

            public void onError(String message, String code, Exception cause) {
                tell("error", "code", code == null ? "" : code, "text", message);
            }
        }, ConnectionState.ALL);
    }

    static void subscribe(String channel) {
        Listener listener = new Listener();
        if (channel.startsWith("presence-")) pusher.subscribePresence(channel, listener, EVENTS);
        else if (channel.startsWith("private-encrypted-")) pusher.subscribePrivateEncrypted(channel, listener, EVENTS);
        else if (channel.startsWith("private-")) pusher.subscribePrivate(channel, listener, EVENTS);
        else pusher.subscribe(channel, listener, EVENTS);
    }

    static void trigger(JsonObject command) {
        String channel = command.get("channel").getAsString();
        PrivateChannel target = channel.startsWith("presence-") ? pusher.getPresenceChannel(channel)
                                                                : pusher.getPrivateChannel(channel);
        target.trigger(command.get("name").getAsString(), command.get("data").getAsString());
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(new java.io.PrintStream(new java.io.FileOutputStream(java.io.FileDescriptor.out), true, "UTF-8"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject command = JsonParser.parseString(line).getAsJsonObject();
            switch (command.get("do").getAsString()) {
                case "connect" -> connect(command);
                case "subscribe" -> subscribe(command.get("channel").getAsString());
                case "unsubscribe" -> pusher.unsubscribe(command.get("channel").getAsString());
                case "trigger" -> trigger(command);
                case "signin" -> pusher.signin();
                case "disconnect" -> pusher.disconnect();
                default -> throw new IllegalArgumentException(line);
            }
        }
        System.exit(0);
    }
}
