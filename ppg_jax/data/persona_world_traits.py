"""What can be true of a person in `persona_world`, and how people talk about it.

Eight areas of life with four traits each. A trait is said in three ways: the persona
states it, `says` repeats a word of the persona, `implies` and the answers in
`follow_ups` share no content word with any of its persona sentences. A hint is
weaker still: it fits several traits and cannot be resolved by itself.

The dog of this world is always rex, the cat luna and the parrot coco, so that a name
gives its owner away. All of it was written for this project.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Trait:
    """One fact about a person, with every way in which it enters a conversation."""

    name: str
    area: str
    persona: tuple[str, ...]  # paraphrases; a profile holds one of them
    says: tuple[str, ...]  # the owner states it
    implies: tuple[str, ...]  # the owner gives it away without naming it
    comments: tuple[str, ...]  # the other one reacts to it
    follow_ups: tuple[tuple[str, str], ...]  # (question of the other, owner's answer)
    you: str  # "you have a dog": the other one guesses, or has heard
    invite: str  # the owner asks the other one to join in
    welcome: str  # the other one makes any invitation fit the owner
    common: str  # the other one has the same trait
    farewell: str  # the other one takes leave of the owner


@dataclasses.dataclass(frozen=True)
class Area:
    """A part of life: how one asks about it, and what one says who has nothing."""

    questions: tuple[str, ...]
    denials: tuple[str, ...]


AREAS = {
    "job": Area(
        questions=(
            "what do you do for a living ?",
            "how is work these days ?",
            "so , what is your job ?",
        ),
        denials=(
            "i am between jobs , i was never good at school .",
            "i just sit in an office , no bread or cars or sick people .",
        ),
    ),
    "pet": Area(
        questions=(
            "do you have any pets ?",
            "are you a cat person or a dog person ?",
            "are there any animals in your life ?",
        ),
        denials=(
            "dogs and horses scare me , so i have no pets .",
            "i would forget to feed a cat or a parrot .",
        ),
    ),
    "hobby": Area(
        questions=(
            "what do you do for fun ?",
            "do you have any hobbies ?",
            "how do you spend your weekends ?",
        ),
        denials=(
            "i am too lazy for hiking , and chess makes me sleepy .",
            "i have no talent , i cannot paint and plants die on me .",
        ),
    ),
    "music": Area(
        questions=(
            "do you like music ?",
            "what kind of music do you like ?",
            "do you play or sing anything ?",
        ),
        denials=(
            "i cannot sing , and drums give me a headache .",
            "jazz and country all sound the same to me .",
        ),
    ),
    "food": Area(
        questions=(
            "what do you like to eat ?",
            "what are you having for dinner ?",
            "are you picky about food ?",
        ),
        denials=(
            "i eat anything , meat or vegan , it is all the same .",
            "toast again , no pizza and no chocolate in the house .",
        ),
    ),
    "family": Area(
        questions=(
            "do you have a big family ?",
            "what is your family like ?",
            "who do you share your life with ?",
        ),
        denials=(
            "just me , no brothers and no wedding plans .",
            "i am on my own , twins would be too much for me .",
        ),
    ),
    "home": Area(
        questions=(
            "where do you live ?",
            "what is it like where you live ?",
            "do you like the place where you live ?",
        ),
        denials=(
            "in a normal street , far from any beach or forest .",
            "just a plain town , no farm and no big city .",
        ),
    ),
    "secret": Area(
        questions=(
            "what would surprise me about you ?",
            "is there a secret you can tell me ?",
            "what do your friends tease you about ?",
        ),
        denials=(
            "i am boring , i sleep well and i like planes .",
            "i have no secrets , i only speak english and never write .",
        ),
    ),
}


TRAITS = (
    Trait(
        name="nurse",
        area="job",
        persona=(
            "i am a nurse.",
            "i work as a nurse at the hospital.",
            "i take care of sick people for a living.",
        ),
        says=(
            "i am a nurse , so i never sit down .",
            "i am a nurse for sick children at the hospital .",
        ),
        implies=(
            "i was on the late ward until midnight .",
            "an old man held my hand for my whole shift .",
            "i smell of soap and pills again tonight .",
        ),
        comments=(
            "people like you save lives , thank you .",
            "you must have a very kind heart .",
        ),
        follow_ups=(
            (
                "do you see a lot of blood ?",
                "sure , but the scared families are harder .",
            ),
            ("are the doctors nice to you ?", "most are , and they bring us coffee ."),
        ),
        you="you are a nurse",
        invite="",
        welcome="when you have a night off",
        common="i am a nurse too , what long nights we have !",
        farewell="i hope your next shift is calm .",
    ),
    Trait(
        name="baker",
        area="job",
        persona=(
            "i am a baker.",
            "i bake bread in my own shop.",
            "i own a little bakery.",
        ),
        says=(
            "i am a baker , bread is my life .",
            "i am a baker , my shop is on the corner .",
        ),
        implies=(
            "i have flour in my hair and dough on my shoes .",
            "my ovens are hot long before the sun is up .",
            "i sold two hundred rolls this morning .",
        ),
        comments=(
            "fresh bread is the best smell in the world .",
            "your customers are lucky people .",
        ),
        follow_ups=(
            (
                "what do people buy the most ?",
                "rolls with butter , they are gone by eight .",
            ),
            ("do you eat a lot of cake ?", "only the broken pieces , i promise ."),
        ),
        you="you are a baker",
        invite="come by for a warm roll",
        welcome="if you bring one of your cakes",
        common="i bake for a living too , we should trade recipes !",
        farewell="save me a loaf of bread !",
    ),
    Trait(
        name="teacher",
        area="job",
        persona=(
            "i am a teacher.",
            "i teach at a primary school.",
            "i teach children how to read.",
        ),
        says=(
            "i teach at a school , i love it .",
            "i am a teacher , i teach children to read .",
        ),
        implies=(
            "i still have forty notebooks to grade tonight .",
            "my class put a frog on my desk today .",
            "one of the boys could finally spell his name today .",
        ),
        comments=(
            "a good teacher stays with you for life .",
            "you must have a lot of patience .",
        ),
        follow_ups=(
            ("how old are the kids ?", "they are six , and they all talk at once ."),
            ("do they do their homework ?", "half do , and the others blame the dog ."),
        ),
        you="you are a teacher",
        invite="come and tell my class a story",
        welcome="when school is out",
        common="i teach too , we could share our lessons !",
        farewell="good luck with your class tomorrow .",
    ),
    Trait(
        name="mechanic",
        area="job",
        persona=(
            "i am a mechanic.",
            "i fix cars for a living.",
            "i repair old cars in my garage.",
        ),
        says=(
            "i am a mechanic , cars are easier than people .",
            "i fix cars in a garage , i am a mechanic .",
        ),
        implies=(
            "there is always oil under my nails .",
            "i was under a truck until five today .",
            "an engine finally started after i talked to it all week .",
        ),
        comments=(
            "i wish i could fix my own car .",
            "it must feel good to make things run again .",
        ),
        follow_ups=(
            (
                "what is the worst thing you found ?",
                "a mouse nest in a motor , still warm .",
            ),
            ("do people trust you ?", "they do once the brakes stop squeaking ."),
        ),
        you="you are a mechanic",
        invite="stop by and i will check your brakes",
        welcome="and have a look at my old car",
        common="i fix cars too , we could open a garage together !",
        farewell="do not lie under cars all night !",
    ),
    Trait(
        name="dog",
        area="pet",
        persona=(
            "i have a dog.",
            "my dog goes everywhere with me.",
            "my dog is still a puppy.",
        ),
        says=(
            "i have a dog , he is my best friend .",
            "my dog is the boss of my house .",
        ),
        implies=(
            "i have to walk rex before dinner .",
            "somebody ate my left shoe and wagged his tail .",
            "i throw a ball in the park every morning .",
        ),
        comments=(
            "dogs are the best company .",
            "at least you never come home to an empty house .",
        ),
        follow_ups=(
            ("does he bark a lot ?", "only at the mailman , then rex is wild ."),
            ("what tricks can he do ?", "he can sit and shake hands for a biscuit ."),
        ),
        you="you have a dog",
        invite="come along on our walk in the park",
        welcome="and bring your dog",
        common="i have a dog as well , they could play together !",
        farewell="give your dog a hug from me !",
    ),
    Trait(
        name="cat",
        area="pet",
        persona=(
            "i have three cats.",
            "i live with three lazy cats.",
            "my cats are my best friends.",
        ),
        says=(
            "i have three cats , and they own me .",
            "my cats sleep on my face .",
        ),
        implies=(
            "my couch is covered in fur and scratches .",
            "luna just pushed a cup off the table and looked proud .",
            "somebody is purring on my keyboard right now .",
        ),
        comments=(
            "cats always know what they want .",
            "soft company on cold nights , i like that .",
        ),
        follow_ups=(
            ("do they catch mice ?", "no , they just watch them and yawn ."),
            (
                "who feeds them when you travel ?",
                "my cousin , and then luna is angry for days .",
            ),
        ),
        you="you have cats",
        invite="come over and meet luna",
        welcome="if your cats let you leave",
        common="i have cats too , i know who is the boss !",
        farewell="say hello to your cats !",
    ),
    Trait(
        name="horse",
        area="pet",
        persona=(
            "i have a horse.",
            "i own a brown horse.",
            "i ride my horse every weekend.",
        ),
        says=(
            "i have a horse , she is my whole heart .",
            "i ride my horse in all kinds of weather .",
        ),
        implies=(
            "i brushed a mane and cleaned the stable all morning .",
            "we galloped through the rain and i lost my helmet .",
            "i bought a new saddle and forgot to pay my rent .",
        ),
        comments=(
            "horses are such gentle animals .",
            "that must keep you fit .",
        ),
        follow_ups=(
            ("did you ever fall off ?", "twice , and both times into the mud ."),
            ("what does she like to eat ?", "apples , she smells them in my pocket ."),
        ),
        you="you have a horse",
        invite="come and see the stable",
        welcome="you could ride over on your horse",
        common="i ride too , we could take our horses out together !",
        farewell="give your horse an apple from me !",
    ),
    Trait(
        name="parrot",
        area="pet",
        persona=(
            "i have a parrot.",
            "i own a parrot that can talk.",
            "my parrot repeats everything i say.",
        ),
        says=(
            "i have a parrot , so watch what you say .",
            "my parrot says hello to everybody .",
        ),
        implies=(
            "somebody in a cage called me a fool this morning .",
            "there are green feathers all over my kitchen .",
            "coco screams until he gets his nuts .",
        ),
        comments=(
            "birds are smarter than most people .",
            "i hope he only learns nice words .",
        ),
        follow_ups=(
            (
                "what is the best word he knows ?",
                "pirate , he yells it at the mailman .",
            ),
            ("is he allowed to fly around ?", "yes , and coco lands on every lamp ."),
        ),
        you="you have a parrot",
        invite="come over and let coco laugh at you",
        welcome="and bring your parrot",
        common="i have a parrot too , they could talk all day !",
        farewell="teach your parrot my name !",
    ),
    Trait(
        name="hiking",
        area="hobby",
        persona=(
            "i love to hike.",
            "i go hiking every weekend.",
            "hiking in the mountains makes me happy.",
        ),
        says=(
            "i love to go hiking in the mountains .",
            "i hike as often as i can .",
        ),
        implies=(
            "i saw the sun come up from the top on sunday .",
            "my map and my boots are always by the door .",
            "i did twenty miles on the trail before lunch .",
        ),
        comments=(
            "fresh air and a good view , that is the life .",
            "you must have strong legs .",
        ),
        follow_ups=(
            (
                "did you ever get lost ?",
                "once , i slept under a tree and heard wolves .",
            ),
            ("what do you carry with you ?", "water , nuts and a tent that leaks ."),
        ),
        you="you love hiking",
        invite="come up the mountain with me on sunday",
        welcome="after your next hike",
        common="i love hiking too , let us climb something together !",
        farewell="enjoy your next hike !",
    ),
    Trait(
        name="garden",
        area="hobby",
        persona=(
            "i love my garden.",
            "i grow vegetables in my garden.",
            "my garden is full of flowers.",
        ),
        says=(
            "i am in my garden whenever it is dry .",
            "i grow flowers and vegetables in my garden .",
        ),
        implies=(
            "the tomatoes are finally turning red .",
            "i fought snails on my knees all morning .",
            "my roses won a prize last week .",
        ),
        comments=(
            "green things never grow for me .",
            "food tastes better when you planted it yourself .",
        ),
        follow_ups=(
            (
                "what did you plant this year ?",
                "beans and pumpkins , far too many pumpkins .",
            ),
            ("what do you do in winter ?", "i look at seeds and wait for spring ."),
        ),
        you="you have a garden",
        invite="come over and pick some beans",
        welcome="and bring me something from your garden",
        common="i have a garden as well , we could trade seeds !",
        farewell="i hope it rains on your garden tonight .",
    ),
    Trait(
        name="paint",
        area="hobby",
        persona=(
            "i like to paint.",
            "i paint pictures in my free time.",
            "painting is my favorite hobby.",
        ),
        says=(
            "i like to paint pictures of old houses .",
            "painting is what i do to relax .",
        ),
        implies=(
            "there is blue and yellow all over my shirt .",
            "my easel stands right by the window .",
            "i sold my first canvas last month .",
        ),
        comments=(
            "i cannot even draw a straight line .",
            "you must see colors everywhere .",
        ),
        follow_ups=(
            ("who is your favorite artist ?", "van gogh , i saw his sunflowers once ."),
            ("would you do a portrait of me ?", "gladly , my brushes are always wet ."),
        ),
        you="you like to paint",
        invite="come and sit for a portrait",
        welcome="and bring your paints",
        common="i paint too , we could share a studio !",
        farewell="go and paint something beautiful !",
    ),
    Trait(
        name="chess",
        area="hobby",
        persona=(
            "i play chess.",
            "i play chess at a club.",
            "i am very good at chess.",
        ),
        says=(
            "i play chess every thursday .",
            "chess is my game , i go to a club .",
        ),
        implies=(
            "i lost my queen after ten moves and wanted to cry .",
            "i stare at a board for hours and call it sport .",
            "an old lady beat me with two pawns yesterday .",
        ),
        comments=(
            "you must always think three steps ahead .",
            "that is too slow for me , but i admire it .",
        ),
        follow_ups=(
            ("who taught you ?", "my grandpa , and he never let me win ."),
            (
                "do you win a lot ?",
                "not against the ten year old girl with the timer .",
            ),
        ),
        you="you play chess",
        invite="come over and try to take my queen",
        welcome="and bring your chess board",
        common="i play chess too , be ready to lose !",
        farewell="good luck in your next game of chess !",
    ),
    Trait(
        name="drums",
        area="music",
        persona=(
            "i play the drums.",
            "i am the drummer in a rock band.",
            "i play in a band with my friends.",
        ),
        says=(
            "i play the drums in a rock band .",
            "my band plays loud rock on fridays .",
        ),
        implies=(
            "i broke two sticks on stage last night .",
            "my ears still ring from the cymbals .",
            "we practice in a basement with thick walls .",
        ),
        comments=(
            "loud is good , i would come to a show .",
            "your poor neighbors !",
        ),
        follow_ups=(
            ("are you on tour soon ?", "in june , five towns in one tiny van ."),
            ("do you write songs too ?", "no , i just hit things and count to four ."),
        ),
        you="you play the drums",
        invite="come to our next show",
        welcome="after band practice",
        common="i play drums too , we would be so loud together !",
        farewell="hit the drums for me tonight !",
    ),
    Trait(
        name="choir",
        area="music",
        persona=(
            "i sing in a choir.",
            "i love to sing.",
            "i sing at church on sundays.",
        ),
        says=(
            "i sing in a choir , mine is the low voice .",
            "i love to sing , mostly old songs .",
        ),
        implies=(
            "my throat is sore from the high notes .",
            "there were forty voices and one loud organ last night .",
            "i need tea with honey before the concert .",
        ),
        comments=(
            "a good voice is a real gift .",
            "i only dare to do that in the shower .",
        ),
        follow_ups=(
            (
                "what was your best concert ?",
                "christmas with candles , everyone cried .",
            ),
            ("are you nervous on stage ?", "always , until the first note is out ."),
        ),
        you="you sing in a choir",
        invite="come and hear our concert",
        welcome="and sing something for us",
        common="i sing too , we could do a duet !",
        farewell="never stop singing !",
    ),
    Trait(
        name="jazz",
        area="music",
        persona=(
            "i love jazz.",
            "i collect old jazz records.",
            "jazz is my favorite music.",
        ),
        says=(
            "i love jazz , the older the better .",
            "i collect records , mostly jazz .",
        ),
        implies=(
            "i spent my last money on a rare miles davis .",
            "i found a shop with dusty vinyl and stayed for hours .",
            "nothing beats a slow saxophone at midnight .",
        ),
        comments=(
            "that music always sounds like rain to me .",
            "you have good taste .",
        ),
        follow_ups=(
            (
                "who do you listen to the most ?",
                "ella , her voice turns my room to gold .",
            ),
            ("do you go to clubs ?", "yes , small dark ones with a trumpet ."),
        ),
        you="you love jazz",
        invite="come and listen to my vinyl",
        welcome="and bring a jazz record",
        common="jazz is my thing too , we should swap records !",
        farewell="put on some jazz for me !",
    ),
    Trait(
        name="country",
        area="music",
        persona=(
            "i love country music.",
            "i listen to country songs all day.",
            "my favorite singer is johnny cash.",
        ),
        says=(
            "i love country music and johnny cash .",
            "country songs make me cry , johnny cash most of all .",
        ),
        implies=(
            "i wore my cowboy hat to a rodeo dance .",
            "give me a banjo and a story about a train .",
            "i drove to nashville just for one show .",
        ),
        comments=(
            "those songs always tell a good story .",
            "i can see you in big boots and a hat .",
        ),
        follow_ups=(
            ("do you dance to it as well ?", "yes , in a line , with boots and all ."),
            (
                "what was the last show you saw ?",
                "dolly parton , she waved at my hat .",
            ),
        ),
        you="you love country music",
        invite="come to the line dance on friday",
        welcome="and wear your cowboy hat",
        common="i love country too , let us go to nashville !",
        farewell="sing a sad country song for me !",
    ),
    Trait(
        name="vegan",
        area="food",
        persona=(
            "i am a vegan.",
            "i do not eat meat.",
            "i never eat meat or cheese.",
        ),
        says=(
            "i am a vegan , no meat or cheese for me .",
            "i eat no meat , i am a vegan .",
        ),
        implies=(
            "i ordered a salad and my uncle laughed at me .",
            "there is tofu in my pan again .",
            "i put oat milk and beans in everything .",
        ),
        comments=(
            "good for you , and good for the animals .",
            "i could never give up butter .",
        ),
        follow_ups=(
            ("what do you miss the most ?", "milk in my tea , oats are not the same ."),
            ("is it hard to eat out ?", "yes , most places just give me a salad ."),
        ),
        you="you are a vegan",
        invite="come over for tofu and beans",
        welcome="i will cook without meat for you",
        common="i eat no meat either , we could cook together !",
        farewell="enjoy your salad !",
    ),
    Trait(
        name="pizza",
        area="food",
        persona=(
            "i love pizza.",
            "pizza is my favorite food.",
            "i could eat pizza every day.",
        ),
        says=(
            "i love pizza , i had it twice this week .",
            "pizza is my favorite , with extra cheese .",
        ),
        implies=(
            "the delivery boy knows me by name .",
            "i want thin crust and basil tonight .",
            "i built a stone oven just for friday nights .",
        ),
        comments=(
            "you cannot go wrong with melted cheese .",
            "now i am hungry too .",
        ),
        follow_ups=(
            ("what do you put on top ?", "mushrooms , basil and too much garlic ."),
            ("do you make it yourself ?", "yes , i throw the dough and hit the lamp ."),
        ),
        you="you love pizza",
        invite="come and try my stone oven",
        welcome="i will order pizza for us",
        common="i love pizza too , let us share a large one !",
        farewell="have a slice of pizza for me !",
    ),
    Trait(
        name="spicy",
        area="food",
        persona=(
            "i love spicy food.",
            "i put hot sauce on everything.",
            "the hotter the food the happier i am.",
        ),
        says=(
            "i love spicy food , it wakes me up .",
            "i put hot sauce on all my food .",
        ),
        implies=(
            "my eyes were full of tears but i finished the chili .",
            "i carry a little red bottle in my bag .",
            "the curry place has a dish named after me .",
        ),
        comments=(
            "my mouth burns just thinking about it .",
            "you are braver than me .",
        ),
        follow_ups=(
            ("is anything too much for you ?", "one red pepper , i saw stars ."),
            ("did you grow up with it ?", "yes , my mom made chili for breakfast ."),
        ),
        you="you love spicy food",
        invite="come over for a bowl of chili",
        welcome="i will have hot sauce ready",
        common="i love spicy food too , we need a chili contest !",
        farewell="do not burn your tongue !",
    ),
    Trait(
        name="chocolate",
        area="food",
        persona=(
            "i love chocolate.",
            "i eat chocolate every day.",
            "i have a sweet tooth.",
        ),
        says=(
            "i eat chocolate for breakfast .",
            "i have a sweet tooth , i love chocolate .",
        ),
        implies=(
            "my dentist makes a lot of money with me .",
            "i hide a brown bar under my pillow .",
            "i skipped dinner and went right to the ice cream .",
        ),
        comments=(
            "life is short , so start with dessert .",
            "a little sugar never hurt anyone .",
        ),
        follow_ups=(
            ("dark or milk ?", "dark , and it always melts in my pocket ."),
            ("did you ever try to stop ?", "for a week , and then came the cookies ."),
        ),
        you="you love chocolate",
        invite="come over for cookies and ice cream",
        welcome="there will be chocolate cake",
        common="i love chocolate too , let us share a bar !",
        farewell="leave some chocolate for the rest of us !",
    ),
    Trait(
        name="twins",
        area="family",
        persona=(
            "i have twin girls.",
            "i am the parent of twins.",
            "my twins are two years old.",
        ),
        says=(
            "i have twins , so i never sit still .",
            "my twin girls just learned to walk .",
        ),
        implies=(
            "i buy diapers in very large boxes .",
            "one baby cries and then the other one starts .",
            "we pushed the double stroller around the lake .",
        ),
        comments=(
            "double the work , but double the joy .",
            "i hope you get some rest .",
        ),
        follow_ups=(
            ("can you tell them apart ?", "yes , one smiles and the other one bites ."),
            ("do they share a room ?", "they do , and nobody sleeps in it ."),
        ),
        you="you have twins",
        invite="come to the playground with us",
        welcome="and bring the twins",
        common="i have twins too , we can get through this together !",
        farewell="kiss the twins good night !",
    ),
    Trait(
        name="wedding",
        area="family",
        persona=(
            "i am getting married this summer.",
            "i am engaged.",
            "my wedding is in june.",
        ),
        says=(
            "i am getting married this summer , i am so nervous .",
            "i am engaged , my wedding is in june .",
        ),
        implies=(
            "there is a new ring on my finger .",
            "we still need a cake and a hundred chairs .",
            "my mom cried when we sent the invitations .",
        ),
        comments=(
            "congratulations , that is wonderful news !",
            "i hope the big day is sunny .",
        ),
        follow_ups=(
            (
                "how did you two meet ?",
                "in a line for coffee , we both missed the bus .",
            ),
            (
                "where is the honeymoon ?",
                "in a tent , the cake took all our money .",
            ),
        ),
        you="you are getting married",
        invite="come and dance at our party",
        welcome="and bring your fiance",
        common="i am getting married too , we can plan it together !",
        farewell="have a lovely wedding !",
    ),
    Trait(
        name="grandmother",
        area="family",
        persona=(
            "i live with my grandmother.",
            "my grandmother raised me.",
            "i take care of my grandmother.",
        ),
        says=(
            "i live with my grandmother , she is great .",
            "my grandmother raised me , i owe her a lot .",
        ),
        implies=(
            "i read the paper to an old lady every morning .",
            "i play cards with a lady who always cheats .",
            "my best friend is ninety and knits me scarves .",
        ),
        comments=(
            "old people have the best stories .",
            "that is very sweet of you .",
        ),
        follow_ups=(
            ("what did she teach you ?", "to knit , and to never trust a quiet man ."),
            ("is she in good health ?", "her hips hurt , but she still dances ."),
        ),
        you="you live with your grandmother",
        invite="come to our card night",
        welcome="your grandmother is welcome too",
        common="i live with mine too , our grandmothers should meet !",
        farewell="give your grandmother a kiss !",
    ),
    Trait(
        name="brothers",
        area="family",
        persona=(
            "i have five brothers.",
            "i grew up with five brothers.",
            "i am the youngest of six children.",
        ),
        says=(
            "i have five brothers , it was never quiet .",
            "i am the youngest , i have five brothers .",
        ),
        implies=(
            "i only ever wore old shirts from the others .",
            "at our table you ate fast or you ate nothing .",
            "i learned early how to fight and how to run .",
        ),
        comments=(
            "a full house is a happy house .",
            "i bet nobody was ever mean to you .",
        ),
        follow_ups=(
            ("do you all get along ?", "we shout a lot , and then we hug ."),
            ("who is the wildest ?", "tom , he drove a tractor into a pool ."),
        ),
        you="you have a lot of brothers",
        invite="come to our loud sunday dinner",
        welcome="all your brothers can come too",
        common="i have brothers too , we could start a team !",
        farewell="say hi to all your brothers !",
    ),
    Trait(
        name="sea",
        area="home",
        persona=(
            "i live by the sea.",
            "my house is near the beach.",
            "i live in a small town on the coast.",
        ),
        says=(
            "i live by the sea and never get tired of it .",
            "my house is by the sea , close to the beach .",
        ),
        implies=(
            "i fall asleep to the sound of waves .",
            "there is sand in my bed and salt in my hair .",
            "a gull stole my sandwich on the porch .",
        ),
        comments=(
            "i would swim every single day .",
            "i can almost hear the waves .",
        ),
        follow_ups=(
            ("is the water warm ?", "it is like ice , but i jump in every morning ."),
            ("are there many tourists ?", "in july , and the gulls eat their lunch ."),
        ),
        you="you live by the sea",
        invite="come and swim with us in july",
        welcome="if you can leave the beach for a day",
        common="i live at the beach too , we could swim together !",
        farewell="say hello to the sea !",
    ),
    Trait(
        name="city",
        area="home",
        persona=(
            "i live in a big city.",
            "i rent a tiny flat in the city.",
            "i live in new york.",
        ),
        says=(
            "i live in the city , in a very small flat .",
            "i rent a flat in new york .",
        ),
        implies=(
            "i hear sirens and taxis all night .",
            "i can touch both walls of my kitchen at once .",
            "the subway was so full that i stood on one leg .",
        ),
        comments=(
            "there is always something to do there .",
            "i would miss the quiet .",
        ),
        follow_ups=(
            ("is it expensive ?", "terribly , i pay a fortune for one window ."),
            ("do you know your neighbors ?", "only by the smell of their cooking ."),
        ),
        you="you live in the city",
        invite="come and see a show downtown",
        welcome="it is good to get out of the city",
        common="i live in the city too , we could meet downtown !",
        farewell="do not get lost in the big city !",
    ),
    Trait(
        name="woods",
        area="home",
        persona=(
            "i live in a cabin in the woods.",
            "my house is deep in the forest.",
            "i live far away from other people.",
        ),
        says=(
            "i live in a cabin , with woods all around me .",
            "my house is a cabin in the forest .",
        ),
        implies=(
            "a bear went through my trash last night .",
            "i chop logs every evening so i do not freeze .",
            "it takes an hour on foot to reach a road .",
        ),
        comments=(
            "it must be so peaceful out there .",
            "i would be afraid of the dark .",
        ),
        follow_ups=(
            ("do you get lonely ?", "no , the owls and the bear keep me company ."),
            ("where do you buy food ?", "once a month i drive two hours to a store ."),
        ),
        you="you live in the woods",
        invite="come and sit by my fire",
        welcome="i know it is a long way from the woods",
        common="i live in the forest too , far from everybody !",
        farewell="keep warm in your cabin !",
    ),
    Trait(
        name="farm",
        area="home",
        persona=(
            "i live on a farm.",
            "i was born on a farm and still live there.",
            "my family has a farm with cows.",
        ),
        says=(
            "i live on a farm with a lot of cows .",
            "i live on the farm where i was born .",
        ),
        implies=(
            "i fed the chickens before breakfast .",
            "the rooster wakes me up and i hate him .",
            "the tractor got stuck in the mud again .",
        ),
        comments=(
            "i would love to hold a baby goat .",
            "you must get up very early .",
        ),
        follow_ups=(
            ("how many animals are there ?", "sixty , and one goat that opens gates ."),
            ("is it hard work ?", "yes , but the hay smells good in summer ."),
        ),
        you="you live on a farm",
        invite="come and see the baby goats",
        welcome="if the cows can spare you",
        common="i live on a farm too , i know early mornings !",
        farewell="say good night to the cows !",
    ),
    Trait(
        name="flying",
        area="secret",
        persona=(
            "i am afraid of flying.",
            "i have never been on a plane.",
            "planes scare me a lot.",
        ),
        says=(
            "planes scare me , i am afraid of flying .",
            "i am afraid of flying , planes are not for me .",
        ),
        implies=(
            "i spent three days on a train to avoid the airport .",
            "i go on holiday by bus , i like the ground .",
            "my hands sweat when i see a runway .",
        ),
        comments=(
            "nobody should have to leave the ground .",
            "trains are nicer anyway .",
        ),
        follow_ups=(
            (
                "did something bad happen ?",
                "no , but people have no wings for a reason .",
            ),
            (
                "would you try it for love ?",
                "maybe , with closed eyes and strong tea .",
            ),
        ),
        you="you are afraid of flying",
        invite="come on a long train ride with me",
        welcome="you can take the train",
        common="planes scare me too , let us take the train !",
        farewell="stay on the ground !",
    ),
    Trait(
        name="french",
        area="secret",
        persona=(
            "i am learning french.",
            "i want to move to paris.",
            "i study french every night.",
        ),
        says=(
            "i study french every night .",
            "i am learning french , i want to move to paris .",
        ),
        implies=(
            "i said bonjour to the wrong person today .",
            "there are little word cards on all my doors .",
            "i dream of a tower and warm croissants .",
        ),
        comments=(
            "it is a beautiful language .",
            "i can only say hello and thank you .",
        ),
        follow_ups=(
            (
                "do you have a teacher ?",
                "a lady online , she laughs when i say bread .",
            ),
            ("what is the hardest part ?", "the r , i sound like a sick frog ."),
        ),
        you="you are learning french",
        invite="come over for croissants",
        welcome="we can practice your french",
        common="i am learning french too , we could practice together !",
        farewell="good luck with your french !",
    ),
    Trait(
        name="novel",
        area="secret",
        persona=(
            "i am writing a novel.",
            "i want to be a writer.",
            "i write stories at night.",
        ),
        says=(
            "i am writing a novel , but only at night .",
            "i write stories , i want to be a writer .",
        ),
        implies=(
            "chapter nine is driving me mad .",
            "a publisher said no to me again .",
            "i talk to people who only exist on paper .",
        ),
        comments=(
            "i would love to read it .",
            "put me in it , please .",
        ),
        follow_ups=(
            ("what is it about ?", "a ghost who is scared of the living ."),
            ("how many pages do you have ?", "three hundred , and no ending ."),
        ),
        you="you are writing a novel",
        invite="come and hear my first chapter",
        welcome="it may give you ideas for your novel",
        common="i am writing too , we could read for each other !",
        farewell="good luck with your novel !",
    ),
    Trait(
        name="owl",
        area="secret",
        persona=(
            "i cannot sleep at night.",
            "i am a night owl.",
            "i never go to bed before three.",
        ),
        says=(
            "i am a night owl , i never go to bed .",
            "i cannot sleep , so i sit up all night .",
        ),
        implies=(
            "i know every late show on tv .",
            "i was washing my windows at two in the morning .",
            "i counted nine thousand sheep and gave up .",
        ),
        comments=(
            "the world is so quiet at that hour .",
            "warm milk always helps me .",
        ),
        follow_ups=(
            ("what keeps you up ?", "my head , it never stops talking ."),
            ("do you nap during the day ?", "on the bus , i often miss my stop ."),
        ),
        you="you are a night owl",
        invite="come over for a late show on tv",
        welcome="we can stay up all night",
        common="i never sleep either , call me at three !",
        farewell="try to get some sleep !",
    ),
)


# What somebody lets slip, and every trait that would explain it.
_HINTS = (
    ("i have been up since four this morning .", "baker nurse twins farm"),
    ("i was on my feet all day and my back hurts .", "nurse baker teacher garden"),
    ("my hands never get really clean .", "mechanic paint garden baker"),
    ("the little ones wore me out again .", "teacher twins"),
    ("somebody at home is always hungry .", "dog cat parrot twins brothers"),
    ("i clean up after somebody all day long .", "cat parrot dog twins horse"),
    ("somebody complained about the noise again .", "drums parrot choir dog"),
    ("i am outside in any weather .", "hiking garden horse dog farm"),
    ("i am saving all my money for a dream .", "wedding french jazz"),
    ("i did not sleep much this week .", "owl twins novel wedding"),
    ("i sat over one problem all evening .", "chess novel french mechanic"),
    ("i love how quiet it is at home .", "woods sea grandmother"),
    ("people make jokes about what i eat .", "vegan spicy chocolate pizza"),
    ("the same shop gets all my money .", "jazz paint chocolate pizza"),
    ("it is never quiet at my place .", "brothers city drums twins"),
    ("my boots are dirty again .", "hiking horse farm garden"),
    ("i own too many pairs of boots .", "country horse hiking"),
    ("i have a big show soon and i am nervous .", "drums choir horse"),
    ("i practice every evening .", "drums choir french chess"),
    ("my summer plans make me nervous .", "wedding flying drums"),
    ("my friends laugh at how i travel .", "flying horse"),
    ("somebody is waiting for me at home .", "grandmother dog cat wedding"),
    ("my kitchen is a mess again .", "spicy vegan pizza chocolate baker"),
    ("the air is so good where i am .", "sea woods farm hiking"),
    ("i hear engines all day long .", "city mechanic"),
    ("i need a new brush .", "paint cat horse"),
)
HINTS = {text: tuple(names.split()) for text, names in _HINTS}

# No profile holds both: somebody in a tiny flat has no room for these.
CONFLICTS = (frozenset({"city", "horse"}), frozenset({"city", "garden"}))


# What anybody may say, whatever their traits.
GREETINGS = (
    "hi there !",
    "hello !",
    "hey !",
    "good evening !",
    "nice to meet you .",
    "hi , i am new here .",
)
MOODS = (
    "how are you ?",
    "how was your day ?",
    "what is new ?",
    "how is it going ?",
)
WELL = ("fine , thank you .", "pretty good .", "not bad .", "i am a bit tired .")
BACK = ("and you ?", "how about you ?", "what about you ?")
GENERIC = (
    "that sounds nice .",
    "oh wow .",
    "i love that .",
    "oh really .",
    "i can imagine .",
    "good to know .",
)
WHY = ("oh , why is that ?", "how come ?", "tell me more ?")
GUESSES = (
    "let me guess , {you} ?",
    "it sounds like {you} , right ?",
    "wait , does that mean {you} ?",
)
BETS = ("i bet {you} .", "something tells me {you} .")
WONDERS = (
    "next time tell me if {you} .",
    "i still wonder if {you} .",
)
RUMOURS = (
    "i heard {you} , is it true ?",
    "is it true that {you} ?",
    "somebody said {you} ?",
)
CONFIRMATIONS = ("yes !", "that is true .", "haha , yes .", "good guess !")
CORRECTIONS = ("no , not at all .", "good guess , but no .", "no , sorry .")
ACCEPTANCES = (
    "i would love to !",
    "gladly , thank you !",
    "sounds like a plan .",
    "i will be there !",
)
FAREWELLS = ("i have to go now .", "well , i must run .", "it was nice to talk .")
BRIDGES = ("as for me ,", "by the way ,", "guess what ,")
