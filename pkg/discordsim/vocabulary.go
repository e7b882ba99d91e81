package discordsim

// The words of the invented people. They are pieces of JSON strings: what JSON must escape is escaped, and some of what
// it may escape is too, so that clients meet both forms.

var words = []string{
	"the", "a", "to", "and", "is", "it", "you", "that", "was", "for", "on", "are", "with", "as", "I", "his", "they",
	"be", "at", "one", "have", "this", "from", "or", "had", "by", "hot", "but", "some", "what", "there", "we", "can",
	"out", "other", "were", "all", "your", "when", "up", "use", "word", "how", "said", "an", "each", "she", "which",
	"server", "patch", "queue", "raid", "build", "deploy", "lobby", "stream", "match", "ranked", "update", "screenshot",
	"lol", "lmao", "gg", "afk", "brb", "ngl", "imo", "tbh", "pls", "thx", "yeah", "nope", "maybe", "tomorrow",
	"café", "naïve", "Straße", "señor", "jalape\u00f1o", "smörgåsbord", "Привет", "спасибо", "日本語", "ありがとう",
	"你好", "안녕하세요", "مرحبا", "שלום", "ไทย", "😂", "🔥", "👀", "\\ud83c\\udf89", "❤️", "👨‍👩‍👧", "<:pog:742839203948572930>",
	"\\\"quoted\\\"", "C:\\\\temp", "https:\\/\\/example.com\\/a?b=c&d=e", "**bold**", "`code`", "||spoiler||", "~~no~~",
	"\\n", "\\n> ", "\\t", "3.14", "100%", "{json}", "[link]", "a<b>c", "it's", "\\u2028", "--", "...", "?!",
}

var names = []string{
	"lena", "kai", "mirko", "sofia", "tom", "yuki", "ravi", "noor", "ines", "pavel", "zoe", "omar", "greta", "luca",
	"mina", "jonas", "ada", "felix", "nora", "emil", "quill", "rook", "wren", "ash", "juno", "pixel", "ember", "onyx",
}

var displayNames = []string{
	"Léna", "カイ", "Mirko ✦", "Sofía", "Tom \\\"T\\\" K.", "ゆき", "रवि", "نور", "Inês", "Павел", "Zoë", "عمر", "Greta\\u2122",
	"Luca 🍋", "민아", "Jönas", "Ada", "Félix", "Nóra", "Emil", "Quill | EU", "Rook", "Wren 🪶", "ash", "Juno", "pixel.", "Ember 🔥", "Onyx",
}

var guildNames = []string{
	"Moss & Stone", "Das Café", "Rust Enjoyers 🦀", "雑談サーバー", "Ranked Only", "Книжный клуб", "Late Night Builds",
	"Board Games \\\"Paris\\\"", "Speedrun Hub", "Sunday Cooks", "Pixel Garden", "Homelab",
}

var topics = []string{
	"general", "off-topic", "memes", "support", "announcements", "voice-text", "clips", "builds", "dev", "music", "雑談", "screenshots",
}

var games = []string{
	"Factorio", "Minecraft", "League of Legends", "VALORANT", "Stardew Valley", "ELDEN RING", "原神", "Visual Studio Code",
	"Rocket League", "Baldur's Gate 3", "Dota 2", "Spotify", "osu!", "Hades II", "Terraria",
}

var emoji = []string{"🔥", "😂", "👍", "❤️", "👀", "🎉", "💀", "🫡", "✅", "🤔"}

var statuses = []string{"online", "idle", "dnd"}

var devices = []string{"desktop", "mobile", "web"}
