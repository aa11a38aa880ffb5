// com.pusher:pusher-http-java, the official server SDK for Java, driven by a test (tests/lib/sdk-journey.js).

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.pusher.rest.Pusher;
import com.pusher.rest.data.Event;
import com.pusher.rest.data.PresenceUser;
import com.pusher.rest.data.Result;
import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

public class SdkDriver {
    static final Gson GSON = new Gson();
    static Pusher pusher;

    static String text(JsonObject command, String member) {
        return command.has(member) ? command.get(member).getAsString() : null;
    }

    static Object data(JsonObject command) {
        return GSON.fromJson(text(command, "data"), Map.class);
    }

    static void open(JsonObject command) {
        pusher = new Pusher(text(command, "id"), text(command, "key"), text(command, "secret"),
            text(command, "encryption_key"));
        pusher.setHost(text(command, "host") + ":" + text(command, "port"));
        pusher.setEncrypted(false);
    }

    static Result trigger(JsonObject command) {
        List<String> channels = new ArrayList<>();
        for (JsonElement channel : command.getAsJsonArray("channels")) channels.add(channel.getAsString());
        // The SDK has encrypted channels with one channel only.
        return channels.size() == 1
            ? pusher.trigger(channels.get(0), text(command, "name"), data(command), text(command, "socket_id"))
            : pusher.trigger(channels, text(command, "name"), data(command), text(command, "socket_id"));
    }

    static Result batch(JsonObject command) {
        List<Event> events = new ArrayList<>();
        for (JsonElement element : command.getAsJsonArray("events")) {
            JsonObject event = element.getAsJsonObject();
            events.add(new Event(text(event, "channel"), text(event, "name"), data(event)));
        }
        return pusher.trigger(events);
    }

    static Result get(String path, JsonObject command) {
        Map<String, String> parameters = new HashMap<>();
        List<String> info = new ArrayList<>();
        if (command.has("info")) for (JsonElement name : command.getAsJsonArray("info")) info.add(name.getAsString());
        if (!info.isEmpty()) parameters.put("info", String.join(",", info));
        if (command.has("prefix")) parameters.put("filter_by_prefix", text(command, "prefix"));
        return pusher.get(path, parameters);
    }

    static void tell(Result result) {
        JsonObject line = new JsonObject();
        if (result.getStatus() == Result.Status.SUCCESS) {
            line.addProperty("event", "answer");
            line.add("value", JsonParser.parseString(result.getMessage()));
        } else {
            line.addProperty("event", "failed");
            line.addProperty("text", result.getMessage());
        }
        System.out.println(GSON.toJson(line));
    }

    static String authorize(JsonObject command) {
        String socket = text(command, "socket_id");
        String channel = text(command, "channel");
        if (!command.has("member")) return pusher.authenticate(socket, channel);
        JsonObject member = command.getAsJsonObject("member");
        Object info = GSON.fromJson(member.get("user_info"), Map.class);
        return pusher.authenticate(socket, channel, new PresenceUser(text(member, "user_id"), info));
    }

    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(new PrintStream(new FileOutputStream(FileDescriptor.out), true, "UTF-8"));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonObject command = JsonParser.parseString(line).getAsJsonObject();
            switch (text(command, "do")) {
                case "open" -> open(command);
                case "trigger" -> tell(trigger(command));
                case "batch" -> tell(batch(command));
                case "channels" -> tell(get("/channels", command));
                case "channel" -> tell(get("/channels/" + text(command, "channel"), command));
                case "users" -> tell(get("/channels/" + text(command, "channel") + "/users", command));
                case "terminate" -> tell(pusher.post("/users/" + text(command, "user") + "/terminate_connections", "{}"));
                case "authorize" -> tell(Result.fromHttpCode(200, authorize(command)));
                default -> throw new IllegalArgumentException(line);
            }
        }
        System.exit(0);
    }
}
